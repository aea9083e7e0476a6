"""Codes in tables of one's own: other delimiters, lists as text, other code systems, free text in their place."""

from __future__ import annotations

import shlex
from pathlib import Path

import pandas as pd
import pytest
import yaml
from table_cases import read

from pipeline.errors import UserError


def table_of(folder: Path, *codes: str) -> Path:
    rows = [{"document_id": str(number), "text": "fever", "codes": one} for number, one in enumerate(codes)]
    pd.DataFrame(rows).to_csv(folder / "a.csv", index=False)
    return folder / "a.csv"


@pytest.mark.parametrize("delimiter", [",", ", ", "|", " ", "/", "\t", "\n", "\r\n"])
def test_codes_at_another_delimiter_are_refused_with_the_setting_that_reads_them(
    tmp_path: Path, delimiter: str
) -> None:
    """Else every note with several codes would be left out, those with one stay, and scores look fine."""
    raw = table_of(tmp_path, "I10", delimiter.join(["E11.9", "J44.9"]))
    with pytest.raises(UserError, match=r"column 'codes' holds several codes .*data\.options\.delimiter=") as caught:
        read(raw)
    _, setting = shlex.split(str(caught.value).rpartition("give ")[2].partition(", quotes and all")[0])
    named = yaml.safe_load(setting.partition("=")[2])  # as a shell and --set read it
    documents, _ = read(raw, delimiter=named)
    assert [one.labels for one in documents] == [["icd10cm:I10"], ["icd10cm:E11.9", "icd10cm:J44.9"]]


def test_several_codes_are_refused_though_one_part_is_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"with a comma between them; .*If its rows have several delimiters, mend"):
        read(table_of(tmp_path, "I10;E11.9, N17.9, see chart"))


@pytest.mark.parametrize(
    "slip", ["D51 Vitamin B12 deficiency anemia", "I20 - I25", "E11.9 see also I10", "S72,01", "I10|E11.9"]
)
def test_one_odd_entry_among_many_is_counted_and_no_delimiter_is_advised(tmp_path: Path, slip: str) -> None:
    documents, report = read(table_of(tmp_path, *["I10;E11.9"] * 60, f"I10;{slip}"))
    assert len(documents) == 61
    assert report["dropped"]["code_malformed"] == 1


def test_labels_of_no_system_are_never_cut_at_blanks(tmp_path: Path) -> None:
    """A no-break space makes a label unprintable, and everything between blanks would be a label."""
    raw = table_of(tmp_path, *["type 2 diabetes;None"] * 30, "type\u00a02 diabetes")
    documents, report = read(raw, code_system="none")
    assert report["dropped"]["code_malformed"] == 1
    assert documents[0].labels == ["none:type 2 diabetes", "none:None"]


@pytest.mark.parametrize(("system", "codes"), [("icd9pcs", "39,95;38,93"), ("icd9cm", "250,00"), ("icd10cm", "E11,65")])
def test_a_decimal_comma_is_no_delimiter(tmp_path: Path, system: str, codes: str) -> None:
    """Else 39.95 would be the procedures 39 and 95."""
    with pytest.raises(UserError, match="column 'codes' holds codes with a decimal comma"):
        read(table_of(tmp_path, codes), code_system=system)


@pytest.mark.parametrize(
    ("system", "shortened", "sound"), [("icd9cm", "38.9", ["250", "401.9"]), ("icd9pcs", "3.95", ["38.93", "45.1"])]
)
def test_dotted_codes_whose_zeros_a_spreadsheet_took_are_refused(
    tmp_path: Path, system: str, shortened: str, sound: list[str]
) -> None:
    """250 was 250.00, and 38.9 was 038.9: only the second shows it."""
    with pytest.raises(UserError, match=f"leading zeros were lost on the way: 3 of its 41 {system} codes"):
        read(table_of(tmp_path, *sound * 19, *[shortened] * 3), code_system=system)
    zero = f"0{shortened}"
    for few in ([zero, *[shortened] * 3], [shortened] * 2):  # zeros stayed where they were, or slips
        documents, report = read(table_of(tmp_path, *sound * 19, *few), code_system=system)
        assert report["dropped"]["code_malformed"] == few.count(shortened)
        assert len(documents) == 38 + few.count(zero)


def test_codes_of_another_version_that_have_the_form_of_icd10cm_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """V5861 of ICD-9 and 0B21.. of ICD-10-PCS: by form V58.61 and B21.11ZZ."""
    _, report = read(table_of(tmp_path, *["I10"] * 20, "S72.001A", "V5861", "V5861;B2111ZZ"))
    assert report["counts"]["labels_unknown_to_icd10cm"] == 2
    assert report["counts"]["label_uses_unknown_to_icd10cm"] == 3
    assert "3 of 24 codes in column 'codes' (2 different ones) are in no list of ICD-10-CM" in caplog.text
    caplog.clear()
    read(table_of(tmp_path, *["I10"] * 20, "V5861"))
    assert not caplog.text, "less than 5 % may be codes of another year"


def test_a_code_with_its_title_is_malformed_and_no_list(tmp_path: Path) -> None:
    documents, report = read(table_of(tmp_path, "E11.9 Diabetes;I10"))
    assert [one.labels for one in documents] == [["icd10cm:I10"]]
    assert report["dropped"] == {"code_malformed": 1}


@pytest.mark.parametrize("system", ["icd10cm", "none"])
def test_a_list_as_pandas_writes_it_to_csv_is_refused(tmp_path: Path, system: str) -> None:
    for codes in ("['I10', 'E11.9']", "[]"):
        with pytest.raises(UserError, match=r"holds text in brackets, as pandas writes a list to CSV"):
            read(table_of(tmp_path, codes), code_system=system)


def test_a_column_of_another_code_system_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"25 of 30 entries of column 'codes' are no codes of icd10cm, .* set data"):
        read(table_of(tmp_path, *["4019"] * 25, *["I10"] * 5))
    with pytest.raises(UserError, match="25 of them have the form of icd9cm; mixed versions: give each a table"):
        read(table_of(tmp_path, *["4019"] * 25, *["I10"] * 5))
    documents, report = read(table_of(tmp_path, *["4019"] * 3, *["I10"] * 27))  # a few may be slips
    assert (len(documents), report["dropped"]["all_codes_malformed"]) == (27, 3)


def test_free_text_does_not_become_labels_that_reports_show(tmp_path: Path) -> None:
    said = [f"Mr Xqzv{number} has fever" for number in range(100)]
    with pytest.raises(UserError, match="100 different values among 100, so it seems to be free text") as caught:
        read(table_of(tmp_path, *said), code_system="none")
    assert "Xqzv" not in str(caught.value)
    documents, _ = read(table_of(tmp_path, *["fever", "cough"] * 50), code_system="none")
    assert len(documents) == 100
