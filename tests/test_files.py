"""Whole-or-nothing files: guards, digests and JSON."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from review_cases import in_git

from pipeline.errors import UserError
from pipeline.files import (
    guarded_io,
    is_seen_by_git,
    private_folder,
    read_json,
    replacing,
    sha256_of,
    write_json,
)


def test_a_missing_permission_is_a_user_error_that_names_the_file(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match=r"raw/notes.csv: Permission denied; mend its permissions"),
        guarded_io(tmp_path),
    ):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "raw/notes.csv")


def test_other_errors_pass_a_guard_unchanged(tmp_path: Path) -> None:
    for error in (FileNotFoundError("x"), ValueError("unlike a disk"), UserError("disk is full"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, guarded_io(tmp_path):
            raise error
        assert caught.value is error


def test_the_digest_of_a_folder_depends_on_names_and_contents_but_not_on_order(tmp_path: Path) -> None:
    for folder, names in (("one", ("a", "b")), ("two", ("b", "a"))):
        for name in names:
            (tmp_path / folder / "in").mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / "in" / name).write_text(name)
    one, two = tmp_path / "one", tmp_path / "two"
    digest = sha256_of(one)
    assert sha256_of(two) == digest
    (two / ".snakemake_timestamp").touch()
    assert sha256_of(two) == digest, "the engine's own mark is none of ours"
    os.utime(two / "in" / "a", (0, 0))
    assert sha256_of(two) == digest
    (two / "in" / "a").rename(two / "a")
    assert sha256_of(two) != digest
    (two / "a").rename(two / "in" / "a")
    (two / "in" / "a").write_text("A")
    assert sha256_of(two) != digest


def test_contents_that_move_from_one_file_to_the_next_change_the_digest(tmp_path: Path) -> None:
    for folder, parts in (("one", ("xy", "z")), ("two", ("x", "yz"))):
        (tmp_path / folder).mkdir()
        for name, part in zip("ab", parts, strict=True):
            (tmp_path / folder / name).write_text(part)
    assert sha256_of(tmp_path / "one") != sha256_of(tmp_path / "two")


def test_nothing_has_no_digest(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        sha256_of(tmp_path / "missing")


def test_a_file_in_the_place_of_a_folder_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "notes.csv").touch()
    for folder in (tmp_path / "notes.csv", tmp_path / "notes.csv" / "work" / "study"):
        with pytest.raises(UserError, match=r"notes.csv.*: a file lies where a folder must be"), guarded_io(folder):
            private_folder(folder)


def test_a_place_that_takes_no_folder_and_a_name_too_long_are_user_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder can be made there; name another"):
        private_folder(Path("/proc/none/study"))
    with pytest.raises(UserError, match="longer than the file system takes"), guarded_io(tmp_path):
        private_folder(tmp_path / ("a" * 300))


def test_what_git_would_pick_up_is_seen_also_where_no_folder_is_yet(tmp_path: Path) -> None:
    folder = in_git(tmp_path / "checkout")
    assert not is_seen_by_git(folder / "work" / "study" / "documents")
    assert is_seen_by_git(folder / "new" / "study" / "documents")
    assert not is_seen_by_git(tmp_path / "codes.csv"), "no checkout"


def test_a_file_takes_its_place_whole_and_leaves_nothing_where_that_fails(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with pytest.raises(SystemExit), replacing(path) as temporary:
        assert temporary.stat().st_mode & 0o777 == 0o600
        raise SystemExit
    assert list(tmp_path.iterdir()) == []
    with replacing(path) as temporary:
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


def test_json_survives_a_failed_write_and_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"title": "Ménière"})
    with pytest.raises(TypeError):
        write_json(path, {"x": object()})
    assert read_json(path) == {"title": "Ménière"}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [b'{"a": 1', b"", b"\xff"])
def test_damaged_json_is_a_user_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=r"a.json is damaged"):
        read_json(tmp_path / "a.json")


def test_a_folder_for_patients_text_is_its_owners_alone_and_one_that_is_there_stays(tmp_path: Path) -> None:
    made = private_folder(tmp_path / "work" / "study")
    assert made.stat().st_mode & 0o777 == 0o700
    made.chmod(0o750)
    assert private_folder(made).stat().st_mode & 0o777 == 0o750
