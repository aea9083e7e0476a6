"""The synthetic corpus: its files and what its codes are like."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from data_recipes import synthetic
from data_recipes._mimic import mimic4
from data_recipes._synthetic.mimic4 import COLUMNS
from data_recipes._synthetic.patients import draw_stays, group_of
from data_recipes._synthetic.vocabulary import build_vocabulary, written_codes
from pipeline.errors import UserError
from pipeline.icd.codes import parse_label
from pipeline.icd.titles import load_icd10cm
from pipeline.notes.documents import Document
from pipeline.notes.ingest_report import IngestReport


@pytest.fixture(scope="module")
def tables(corpus: list[Document], scratch: Path) -> dict[str, list[list[str]]]:
    """The raw files by name, header first."""
    unpacked = {name: gzip.decompress((scratch / "mimic4" / f"{name}.csv.gz").read_bytes()) for name in COLUMNS}
    return {name: list(csv.reader(io.StringIO(raw.decode(), newline=""))) for name, raw in unpacked.items()}


# Files.


def test_the_raw_files_have_the_columns_of_the_real_ones(tables: dict[str, list[list[str]]]) -> None:
    assert {name: tuple(rows[0]) for name, rows in tables.items()} == COLUMNS
    assert COLUMNS["note/discharge"][-1] == "text"
    for rows in tables.values():
        assert {len(row) for row in rows} == {len(rows[0])}


def test_only_text_is_quoted_with_doubled_quotes_over_many_lines(scratch: Path, corpus: list[Document]) -> None:
    raw = gzip.decompress((scratch / "mimic4/note/discharge.csv.gz").read_bytes()).decode()
    first = raw.split("\n", 2)[1]
    assert re.fullmatch(
        r'1\d{7}-DS-\d+,1\d{7},2\d{7},DS,\d+,\d{4}-\d\d-\d\d 00:00:00,\d{4}-\d\d-\d\d \d\d:\d\d:\d\d," ', first
    )
    assert '""' in raw
    assert "\r" not in raw
    titles = gzip.decompress((scratch / "mimic4/hosp/d_icd_diagnoses.csv.gz").read_bytes()).decode()
    assert '"Pneumonia, unspecified organism"' in titles


def test_ids_are_unique_and_in_the_range_of_the_real_ones(tables: dict[str, list[list[str]]]) -> None:
    subjects = [int(row[0]) for row in tables["hosp/patients"][1:]]
    admissions = [int(row[1]) for row in tables["hosp/admissions"][1:]]
    assert subjects == sorted(set(subjects))
    assert len(set(admissions)) == len(admissions)
    assert {len(str(subject)) for subject in subjects} == {len(str(one)) for one in admissions} == {8}
    assert {subject // 10_000_000 for subject in subjects} == {1}
    assert {admission // 10_000_000 for admission in admissions} == {2}
    notes = tables["note/discharge"][1:]
    assert len(notes) == 1000
    assert {row[2] for row in notes} < {str(one) for one in admissions}  # some stays have no summary
    stays = Counter(row[0] for row in tables["hosp/admissions"][1:])
    assert set(stays.values()) == {1, 2, 3, 4}


def test_stored_codes_are_without_dot_some_padded_and_some_without_title(tables: dict[str, list[list[str]]]) -> None:
    rows = tables["hosp/diagnoses_icd"][1:]
    codes = {(row[3].strip(), row[4]) for row in rows}
    assert not any("." in code for code, _ in codes)
    assert any(row[3].endswith(" ") and len(row[3]) == 7 for row in rows)
    titled = {(row[0], row[1]) for row in tables["hosp/d_icd_diagnoses"][1:]}
    assert 0 < len(codes - titled) < 0.1 * len(codes)


def test_the_same_settings_give_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        synthetic.make_raw(tmp_path / name, synthetic.Options(n_documents=40, seed=seed))
    for table in COLUMNS:
        a, b, c = ((tmp_path / name / f"{table}.csv.gz").read_bytes() for name in "abc")
        assert a == b
        assert (a == c) == table.startswith("hosp/d_icd")


def test_a_larger_corpus_begins_as_the_smaller_one(tmp_path: Path) -> None:
    texts = []
    for n_documents in (20, 60):
        options = synthetic.Options(n_documents=n_documents)
        texts.append([one.text for one in synthetic.read(None, options, IngestReport(), tmp_path)])
    assert texts[1][: len(texts[0])] == texts[0]


def test_files_of_the_same_settings_are_kept_and_of_others_made_anew(tmp_path: Path) -> None:
    folder, note = tmp_path / "made", tmp_path / "made/note/discharge.csv.gz"
    synthetic.make_raw(folder, synthetic.Options(n_documents=10))
    first = note.stat().st_ino
    # How the corpus is read changes nothing in it.
    synthetic.make_raw(folder, synthetic.Options(n_documents=10, icd_version=9, on_bad_row="skip"))
    assert note.stat().st_ino == first
    synthetic.make_raw(folder, synthetic.Options(n_documents=11))
    assert note.stat().st_ino != first
    assert not list(tmp_path.glob(".*"))


def test_a_run_that_was_killed_leaves_nothing_that_looks_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(folder: Path, **_: object) -> None:
        (folder / "note").mkdir(parents=True)
        (folder / "note/discharge.csv.gz").write_bytes(b"half")
        raise KeyboardInterrupt

    folder = tmp_path / "made"
    with monkeypatch.context() as patch:
        patch.setattr(synthetic, "write_mimic4", die)
        with pytest.raises(KeyboardInterrupt):
            synthetic.make_raw(folder, synthetic.Options(n_documents=10))
    assert not folder.exists()
    synthetic.make_raw(folder, synthetic.Options(n_documents=10))
    assert (folder / "note/discharge.csv.gz").stat().st_size > 1000


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(UserError, match="is no synthetic corpus; nothing was written"):
        synthetic.make_raw(tmp_path, synthetic.Options(n_documents=10))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_data_raw_is_refused_rather_than_ignored(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"leave data\.raw out, or read .* data\.recipe=mimic4_icd10"):
        next(synthetic.read(tmp_path, synthetic.Options(), IngestReport(), tmp_path))


def test_the_command_writes_a_folder_that_mimic4_reads(tmp_path: Path) -> None:
    synthetic.main(["--output", str(tmp_path / "out"), "--n-documents", "12", "--seed", "3", "--mean-words", "300"])
    made = json.loads((tmp_path / "out/synthetic.json").read_text())
    assert (made["n_documents"], made["seed"], made["mean_words"], made["n_codes"]) == (12, 3, 300, 60)
    report = IngestReport()
    list(mimic4.read(tmp_path / "out", mimic4.Options(), report, tmp_path))
    assert report.counts["summaries"] == 12


def test_a_wrong_argument_ends_with_one_line_and_status_2(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "data_recipes.synthetic", "--output", str(tmp_path / "out"), "--n-codes", "3"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: arguments:\n  n_codes: Input should be greater than or equal to 20 (got 3)\n"
    assert not (tmp_path / "out").exists()


# Codes.


@pytest.mark.parametrize("n_codes", [60, 1500])
def test_every_code_is_a_leaf_of_icd10cm(n_codes: int) -> None:
    icd10cm = load_icd10cm()
    codes = list(build_vocabulary(n_codes).diagnoses)
    assert len(set(codes)) == len(codes) == n_codes
    assert [code for code in codes if not (icd10cm.is_valid_item(code) and icd10cm.is_leaf(code))] == []
    assert codes[:60] == written_codes()[:60]


def test_every_code_of_either_version_has_a_title_and_is_read_without_loss(scratch: Path) -> None:
    vocabulary = build_vocabulary(len(written_codes()))
    for kind, conditions in (("diagnoses", vocabulary.diagnoses), ("procedures", vocabulary.procedures)):
        for one in conditions.values():
            assert (kind, 10, one.code) in vocabulary.titles
            assert one.icd9
            assert all((kind, 9, code) in vocabulary.titles for code in one.icd9)
    for version in (9, 10):
        report = IngestReport()
        options = synthetic.Options(n_codes=len(written_codes()), icd_version=version)
        documents = list(synthetic.read(None, options, report, scratch / "all"))
        assert set(report.as_dict()["dropped"]) == {"admission_without_codes_of_version"}
        systems = {parse_label(label)[0] for document in documents for label in document.labels}
        assert systems == ({"icd9cm", "icd9pcs"} if version == 9 else {"icd10cm", "icd10pcs"})
        if version == 9:
            assert 0.1 < len(documents) / 1000 < 0.3
            labels = {label for document in documents for label in document.labels}
            assert {"icd9cm:038.9", "icd9cm:041.49", "icd9pcs:00.66", "icd9cm:E888.9"} <= labels


def test_codes_are_long_tailed_and_as_many_as_asked_for(corpus: list[Document]) -> None:
    counts = Counter(label for document in corpus for label in document.labels)
    by_frequency = [n for _, n in counts.most_common()]
    assert len([label for label in counts if label.startswith("icd10cm")]) == 60
    assert 5 <= np.mean([len(document.labels) for document in corpus]) <= 8
    assert by_frequency[0] > 0.3 * len(corpus)
    assert np.median(by_frequency) < by_frequency[0] / 5
    assert by_frequency[-1] < 0.02 * len(corpus)
    assert sum(by_frequency[:20]) > 0.5 * sum(by_frequency)


def test_a_corpus_of_thousands_of_codes_has_a_long_tail_of_rare_ones() -> None:
    vocabulary, rng = build_vocabulary(3000), random.Random(0)
    stays = [stay for _ in range(600) for stay in draw_stays(vocabulary, rng, "F")]
    counts = Counter(one.code for stay in stays for one in stay.diagnoses)
    assert len(counts) > 1000
    assert sum(n <= 5 for n in counts.values()) > 0.7 * len(counts)


@pytest.mark.parametrize(
    ("code", "companion"),
    [
        ("N18.6", "D63.1"), ("J44.1", "J96.01"), ("K70.31", "F10.20"), ("A41.9", "N39.0"),
        ("S72.001A", "W19.XXXA"), ("E11.65", "Z79.4"), ("I48.91", "Z79.01"), ("I50.23", "I11.0"),
    ],
)  # fmt: skip
def test_conditions_that_go_together_come_together(corpus: list[Document], code: str, companion: str) -> None:
    """At least twice as often as by chance."""
    sets = [{parse_label(label)[1] for label in document.labels} for document in corpus]
    n_code, n_companion = (sum(one in codes for codes in sets) for one in (code, companion))
    n_both = sum({code, companion} <= codes for codes in sets)
    assert n_both > 2 * n_code * n_companion / len(sets)


def test_chronic_conditions_recur_from_stay_to_stay(corpus: list[Document]) -> None:
    by_patient: dict[str, list[set[str]]] = {}
    for document in corpus:
        by_patient.setdefault(document.patient_id, []).append(set(document.labels))
    chronic = ("icd10cm:F32.A", "icd10cm:M81.0", "icd10cm:E78.5")
    pairs = [pair for sets in by_patient.values() for pair in itertools.pairwise(sets)]
    n_first = sum(label in first for first, _ in pairs for label in chronic)
    n_both = sum(label in first and label in second for first, second in pairs for label in chronic)
    assert n_both > 0.7 * n_first > 0


def test_neighbours_exclude_each_other_and_hypertension_is_coded_with_its_company() -> None:
    vocabulary, rng = build_vocabulary(len(written_codes())), random.Random(0)
    stays = [stay for _ in range(500) for stay in draw_stays(vocabulary, rng, "M")]
    combined: Counter[str] = Counter()
    for stay in stays:
        codes = [one.code for one in stay.diagnoses]
        groups = [group_of(code) for code in codes]
        assert len(set(groups)) == len(groups)
        heart, kidney = (any(code.startswith(start) for code in codes) for start in ("I50", "N18"))
        expected = {
            "I10": not heart and not kidney,
            "I11.0": heart and not kidney,
            "I12.9": not heart and kidney and "N18.6" not in codes,
            "I12.0": not heart and "N18.6" in codes,
            "I13.0": heart and kidney and "N18.6" not in codes,
            "I13.2": heart and "N18.6" in codes,
        }
        for code in set(codes) & set(expected):
            assert expected[code]
            combined[code] += 1
    assert len(combined) == 6
    assert not any("C50.919" in [one.code for one in stay.diagnoses] for stay in stays)  # of women only
