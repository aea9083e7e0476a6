from __future__ import annotations

from pipeline.icd.titles import title


def test_titles_come_from_the_caller_then_the_chapters_then_the_package() -> None:
    assert title("icd10cm:I10", {"icd10cm:I10": "High blood pressure"}) == "High blood pressure"
    assert title("icd10cm:I10", {"icd9cm:401.9": "other"}) == "Essential (primary) hypertension"
    assert title("icd10cm:E11") == "Type 2 diabetes mellitus"
    assert title("icd10cm:D50-D89", {}) is not None
    assert title("icd10pcs:0") == "Medical and surgical"
    assert title("icd10cm:Z99.999") is None
    assert title("icd9cm:401.9") is None
    assert title("none:evading: growth") == "evading: growth"
    assert title("none:Invasion and metastasis--Cell_migration") == "Cell migration"
    assert title("none:A12") is title("none:2024-11") is None
