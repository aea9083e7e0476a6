"""Files that are written whole or not at all, text files, locks, digests, and what a full disk looks like."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import platform
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock

from pipeline.errors import UserError

logger = logging.getLogger(__name__)

_FULL_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# What safetensors and tokenizers (Rust), SQLite and torch.save say of it.
_FULL_DISK_PHRASES = (*(f"(os error {number})" for number in _FULL_DISK_ERRORS), "disk is full", "unexpected pos ")
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)
_HALF_PAIR = re.compile("[\ud800-\udfff]")


@contextlib.contextmanager
def guarded_io(where: Path) -> Iterator[None]:
    """Turn a full disk, a file-size limit, a missing permission or a file in place of a folder into a UserError."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if _is_full_disk(error):
            raise UserError(
                f"{where}, or the folder for temporary files: the disk is full or a limit on file size was hit. "
                "Earlier outputs are intact; free space and run again."
            ) from error
        if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise UserError(f"{error.filename or where}: {error.strerror}; mend its permissions.") from error
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            raise UserError(f"{where}: the name is longer than the file system takes; name another.") from error
        if isinstance(error, FileExistsError | NotADirectoryError):
            raise UserError(f"{error.filename or where}: a file lies where a folder must be; name another.") from error
        raise


def _is_full_disk(error: BaseException) -> bool:
    """Whether an error says so; several libraries raise types of their own and put the number in the message."""
    if isinstance(error, OSError) and error.errno in _FULL_DISK_ERRORS:
        return True
    return not isinstance(error, OSError) and any(phrase in str(error) for phrase in _FULL_DISK_PHRASES)


@contextlib.contextmanager
def lock(experiment_dir: Path, name: str) -> Iterator[None]:
    """Hold an exclusive lock, which the system frees even when the process is killed.

    Raises:
        UserError: if another process holds it.
    """
    folder = private_folder(experiment_dir) / ".locks"
    folder.mkdir(exist_ok=True)
    holder = folder / f"{name}.holder"
    held = filelock.FileLock(folder / f"{name}.lock", timeout=0)
    try:
        held.acquire()
    except filelock.Timeout:
        who = holder.read_text(encoding="utf-8") if holder.exists() else "another process"
        raise UserError(f"{experiment_dir}: '{name}' is running already ({who}); wait for it or stop it.") from None
    try:
        holder.write_text(f"process {os.getpid()} on {platform.node()}", encoding="utf-8")
        yield
    finally:
        held.release()


def private_folder(path: Path) -> Path:
    """Make a folder for patients' text, which only its owner can read; one that is there stays as it is.

    Raises:
        UserError: if the file system takes none there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
    except FileNotFoundError:  # in /proc and the like
        raise UserError(f"{path}: no folder can be made there; name another.") from None
    return path


def sha256_of(path: Path) -> str:
    """Digest of a file, or of a folder's files with their relative names in order."""
    digest = hashlib.sha256()
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    for file_path in sorted(one for one in path.rglob("*") if one.is_file() and one.name != ".snakemake_timestamp"):
        digest.update(file_path.relative_to(path).as_posix().encode() + b"\0")
        digest.update(bytes.fromhex(sha256_of(file_path)))
    return digest.hexdigest()


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a new file beside a path, which only its owner can read; whole, it takes the path's place, else it goes."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=f".{path.name}")
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def is_seen_by_git(path: Path) -> bool:
    """Whether a file, or what a killed :func:`replacing` leaves of it, lies in a checkout and is not ignored there.

    Where git cannot say, it is seen.
    """
    path = path.resolve()
    if not any((folder / ".git").exists() for folder in path.parents):
        return False
    there = next(folder for folder in path.parents if folder.is_dir())
    return not all(_is_ignored(one, there) for one in (path, path.with_name(f".x.{path.name}")))


def _is_ignored(path: Path, folder: Path) -> bool:
    command = ["git", "check-ignore", "--quiet", "--no-index", str(path)]
    with contextlib.suppress(OSError):
        return subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode == 0
    return False


def warn_of_git(path: Path, where: str) -> None:
    """Warn where a file about patients would be picked up by ``git add``; ``where`` names the place as its user did."""
    if is_seen_by_git(path):
        logger.warning(
            "%s: git would pick up what is written there, which is about patients; name a place that git ignores", where
        )


def csv_cell(value: Any) -> Any:
    r"""What stands in a CSV file for a value: a text that a spreadsheet would compute gets an apostrophe in front.

    Such a text begins with one of ``= + - @``, a tab or a carriage return, and is no number. One that would then be
    taken for one of these gets an apostrophe, too, so that :func:`csv_text` gives back all that went in. The review
    page does the same in its script (``spreadsheetCell``).

    Example:
        >>> [csv_cell(value) for value in ("=1+1", "-5", "'=1+1", "o'clock", 7)]
        ["'=1+1", '-5', "''=1+1", "o'clock", 7]
    """
    is_formula = isinstance(value, str) and _FORMULA.match(value) and not _NUMBER.fullmatch(value)
    return f"'{value}" if is_formula else value


def csv_text(cell: Any) -> Any:
    """What :func:`csv_cell` made a cell of."""
    return cell[1:] if isinstance(cell, str) and cell.startswith("'") and _FORMULA.match(cell) else cell


def without_half_pairs(text: str) -> str:
    r"""Put U+FFFD in place of halves of surrogate pairs, which JSON can hold ("\ud83d") but no UTF-8 file can.

    Example:
        >>> without_half_pairs("cut \ud83d off").isprintable()
        True
    """
    return text if text.isascii() else _HALF_PAIR.sub("\ufffd", text)


def text_files(folder: Path) -> list[Path]:
    """The .txt files of a folder in the order of their names, also those named .TXT; not those that are hidden."""
    found = (path for path in folder.iterdir() if path.suffix.lower() == ".txt" and not is_hidden(path))
    return sorted(path for path in found if path.is_file())


def is_hidden(path: Path) -> bool:
    """Whether a file's name begins with a dot, such as those that macOS puts beside a file on foreign disks."""
    return path.name.startswith(".")


def read_text(path: Path) -> str:
    """Text of a UTF-8 file without its byte order mark; line ends stay as they are, since offsets count them.

    Raises:
        UserError: if it is not UTF-8.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 (byte {error.start}); convert the file to UTF-8.") from None


def check_page_path(path: Path) -> None:
    """Check where a page is to be written, before anything is computed for it.

    Raises:
        UserError: if its name does not end in .html, it is a folder, or the folder around it is missing.
    """
    if path.suffix != ".html" or path.is_dir():
        raise UserError(f"--output {path}: expected a name that ends in .html.")
    if not path.parent.is_dir():
        raise UserError(f"--output {path}: the folder {path.parent} does not exist; make it first.")


def write_json(path: Path, content: Any) -> None:
    """Write JSON whole or not at all, readable by people."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        text = without_half_pairs(json.dumps(content, indent=1, ensure_ascii=False))
        temporary.write_text(text + "\n", encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """Read a JSON file that a stage wrote.

    Raises:
        UserError: if it is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); remove it and run its stage again.") from None
