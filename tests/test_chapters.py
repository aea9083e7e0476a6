"""Chapters of the code systems: their borders and their number."""

from __future__ import annotations

import pytest

from pipeline.icd import codes
from pipeline.icd.codes import CodeSystem


@pytest.mark.parametrize(
    ("code", "system", "expected"),
    [
        ("139.8", "icd9cm", "001-139"),
        ("140.0", "icd9cm", "140-239"),
        ("999.9", "icd9cm", "800-999"),
        ("V01.0", "icd9cm", "V01-V91"),
        ("E000.0", "icd9cm", "E000-E999"),
        ("V00", "icd9cm", "V01-V91"),
        ("B99.9", "icd10cm", "A00-B99"),
        ("F00.1", "icd10cm", "F01-F99"),
        ("C7A.00", "icd10cm", "C00-D49"),
        ("D49.9", "icd10cm", "C00-D49"),
        ("D50.0", "icd10cm", "D50-D89"),
        ("H59.8", "icd10cm", "H00-H59"),
        ("H60.0", "icd10cm", "H60-H95"),
        ("O9A.1", "icd10cm", "O00-O9A"),
        ("QA0.01", "icd10cm", "Q00-Q99"),
        ("T88.9", "icd10cm", "S00-T88"),
        ("U07.1", "icd10cm", "U00-U85"),
        ("V00.1", "icd10cm", "V00-Y99"),
        ("Y99.9", "icd10cm", "V00-Y99"),
        ("Z00.0", "icd10cm", "Z00-Z99"),
        ("17.1", "icd9pcs", "17-17"),
        ("99.9", "icd9pcs", "87-99"),
        ("XW033E5", "icd10pcs", "X"),
    ],
)
def test_chapters_at_their_borders(code: str, system: CodeSystem, expected: str) -> None:
    assert codes.chapter(code, system) == expected


def test_the_systems_have_as_many_chapters_as_their_books() -> None:
    """ICD-9-CM: 17 and the E and V codes; ICD-10-CM: 22; ICD-10-PCS: 17 sections."""
    assert {system: len(chapters) for system, chapters in codes.CHAPTERS.items()} == {
        "icd9cm": 19,
        "icd9pcs": 18,
        "icd10cm": 22,
        "icd10pcs": 17,
        "none": 0,
    }
