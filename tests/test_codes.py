from __future__ import annotations

import decimal
import string

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.icd import codes
from pipeline.icd.codes import CodeSystem
from pipeline.icd.titles import load_icd10cm

DIGITS = string.digits
PCS_CHARACTERS = [c for c in DIGITS + string.ascii_uppercase if c not in "IO"]


def texts(alphabet: str | list[str], least: int, most: int | None = None) -> st.SearchStrategy[str]:
    return st.text(st.sampled_from(alphabet), min_size=least, max_size=least if most is None else most)


def dotted(head: st.SearchStrategy[str], tail: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(lambda h, t: f"{h}.{t}" if t else h, head, tail)


# Canonical codes of every system, put together from the rules and not from the patterns under test.
ICD9CM = st.one_of(
    dotted(texts(DIGITS, 3).filter(lambda code: code != "000"), texts(DIGITS, 0, 2)),
    dotted(texts(DIGITS, 2).map("V".__add__), texts(DIGITS, 0, 2)),
    dotted(texts(DIGITS, 3).map("E".__add__), texts(DIGITS, 0, 1)),
)
ICD9PCS = dotted(texts(DIGITS, 2), texts(DIGITS, 0, 2))
ICD10CM = dotted(
    st.builds(
        "{}{}{}".format,
        st.sampled_from(string.ascii_uppercase),
        st.sampled_from(DIGITS),
        st.sampled_from(DIGITS + "AB"),
    ),
    texts(DIGITS + string.ascii_uppercase, 0, 4),
)
ICD10PCS = st.builds("{}{}".format, st.sampled_from("0123456789BCDFGHX"), texts(PCS_CHARACTERS, 6))
ICD_CODES: st.SearchStrategy[tuple[CodeSystem, str]] = st.one_of(
    st.tuples(st.just("icd9cm"), ICD9CM),
    st.tuples(st.just("icd9pcs"), ICD9PCS),
    st.tuples(st.just("icd10cm"), ICD10CM),
    st.tuples(st.just("icd10pcs"), ICD10PCS),
)


@given(ICD_CODES)
def test_a_code_survives_losing_and_regaining_its_dot(one: tuple[CodeSystem, str]) -> None:
    system, code = one
    assert codes.normalise(codes.undot(code), system) == code


@given(ICD_CODES, st.sampled_from(["", " ", "\t", "   "]), st.booleans())
def test_padding_case_and_a_trailing_dot_do_not_matter(
    one: tuple[CodeSystem, str], padding: str, has_trailing_dot: bool
) -> None:
    system, code = one
    raw = code + "." if has_trailing_dot and "." not in code else code
    assert codes.normalise(padding + raw.lower() + padding, system) == code


@given(ICD_CODES)
def test_normalising_twice_changes_nothing_more(one: tuple[CodeSystem, str]) -> None:
    system, code = one
    once = codes.normalise(code, system)
    assert once == code
    assert codes.normalise(once, system) == once


@pytest.mark.parametrize(("system", "strategy"), [("icd9cm", ICD9CM), ("icd9pcs", ICD9PCS), ("icd10cm", ICD10CM)])
@given(data=st.data())
def test_a_zero_more_or_less_at_either_end_makes_another_code_or_none(
    system: CodeSystem, strategy: st.SearchStrategy[str], data: st.DataObject
) -> None:
    """250.0 and 250.00 are two codes; 38.9 is none, 03.89 another: nothing is mended or merged in silence."""
    code = data.draw(strategy)
    digits = codes.undot(code)
    for other in {digits + "0", "0" + digits, digits.removeprefix("0"), digits.removesuffix("0")} - {digits}:
        try:
            assert codes.normalise(other, system) != code
        except UserError:
            assert not codes.is_valid_shape(other, system)


@given(texts(DIGITS, 3, 4).filter(lambda digits: not digits.startswith("000")))
def test_the_same_digits_as_diagnosis_and_as_procedure_never_meet_at_any_level(digits: str) -> None:
    """Any digits that both systems of ICD-9 have, such as 3995."""
    labels = [codes.make_label(system, codes.normalise(digits, system)) for system in ("icd9cm", "icd9pcs")]
    for level in codes.LEVELS:
        diagnosis, procedure = (codes.at_level(label, level) for label in labels)
        assert diagnosis != procedure
        assert (codes.parse_label(diagnosis)[0], codes.parse_label(procedure)[0]) == ("icd9cm", "icd9pcs")


@given(ICD_CODES)
def test_parents_lead_through_the_category_to_the_chapter(one: tuple[CodeSystem, str]) -> None:
    system, code = one
    chain = [code]
    while (above := codes.parent(chain[-1], system)) is not None:
        chain.append(above)
        assert len(chain) < 8
    assert chain[-1] == codes.chapter(code, system)
    assert chain[-1] in codes.CHAPTERS[system]
    assert codes.category(code, system) in chain
    assert chain[-2] == codes.category(code, system)
    assert {codes.chapter(one, system) for one in chain} == {chain[-1]}


@given(ICD_CODES)
def test_levels_can_be_climbed_in_one_step_or_in_two(one: tuple[CodeSystem, str]) -> None:
    label = codes.make_label(*one)
    assert codes.parse_label(label) == one
    by_category = codes.at_level(label, "category")
    assert codes.at_level(label, "full") == label
    assert codes.at_level(by_category, "category") == by_category
    by_chapter = codes.at_level(label, "chapter")
    assert codes.at_level(by_category, "chapter") == by_chapter
    assert codes.at_level(by_chapter, "chapter") == by_chapter


@given(st.text(max_size=12), st.sampled_from(codes.CODE_SYSTEMS))
def test_any_text_is_either_a_canonical_code_or_refused_in_a_short_message(text: str, system: CodeSystem) -> None:
    try:
        code = codes.normalise(text, system)
    except ValueError:
        with pytest.raises(UserError, match=f"no code of {system}; expected "):
            codes.normalise(text, system)
    else:
        assert codes.is_valid_shape(code, system)
        assert codes.normalise(code, system) == code


@pytest.mark.parametrize(
    ("raw", "system", "expected"),
    [
        ("0389", "icd9cm", "038.9"),
        ("4019", "icd9cm", "401.9"),
        ("25000", "icd9cm", "250.00"),
        ("042", "icd9cm", "042"),
        ("E8889", "icd9cm", "E888.9"),
        ("e888", "icd9cm", "E888"),
        ("V053", "icd9cm", "V05.3"),
        ("V4281", "icd9cm", "V42.81"),
        ("0066", "icd9pcs", "00.66"),
        ("9390", "icd9pcs", "93.90"),
        ("640", "icd9pcs", "64.0"),
        ("I10    ", "icd10cm", "I10"),
        ("I10.", "icd10cm", "I10"),
        ("E1165", "icd10cm", "E11.65"),
        ("S0100XA", "icd10cm", "S01.00XA"),
        ("c7a00", "icd10cm", "C7A.00"),
        ("0dtj4zz", "icd10pcs", "0DTJ4ZZ"),
        (" 021209W ", "icd10pcs", "021209W"),
        (" Evading growth ", "none", "Evading growth"),
    ],
)
def test_normalise_by_example(raw: str, system: CodeSystem, expected: str) -> None:
    assert codes.normalise(raw, system) == expected


@pytest.mark.parametrize(
    ("raw", "system"),
    [
        ("", "icd9cm"),
        ("NULL", "icd9cm"),
        ("nan", "icd10cm"),
        ("38.9", "icd9cm"),  # 038.9 through a number
        ("389", "icd9pcs.x"),  # no such system
        ("4019.0", "icd9cm"),
        ("40.19", "icd9cm"),
        ("E88.89", "icd9cm"),
        ("E88899", "icd9cm"),
        ("000", "icd9cm"),
        ("0.66", "icd9pcs"),
        ("39.951", "icd9pcs"),
        ("FEVER", "icd10cm"),
        ("I1", "icd10cm"),
        ("I1.0", "icd10cm"),
        ("I10..", "icd10cm"),
        ("I 10", "icd10cm"),
        ("ı10", "icd10cm"),  # a dotless i, which upper() would turn into I
        ("I10\x00", "icd10cm"),
        ("E11.65000", "icd10cm"),
        ("0DTJ4Z", "icd10pcs"),
        ("0DTJ4ZI", "icd10pcs"),
        ("EDTJ4ZZ", "icd10pcs"),  # no section E
        ("0DT.J4ZZ", "icd10pcs"),
        ("  ", "none"),
        ("two\nlines", "none"),
        ("x" * 101, "none"),
    ],
)
def test_what_is_no_code_is_refused(raw: str, system: CodeSystem) -> None:
    with pytest.raises(UserError):
        codes.normalise(raw, system)


@pytest.mark.parametrize("value", [38.9, 389, np.float64(250.0), np.int64(66), decimal.Decimal("1.0"), True])
def test_a_number_is_refused_with_the_reason(value: object) -> None:
    with pytest.raises(UserError, match="has lost its zeros"):
        codes.normalise(value, "icd9cm")  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [None, b"I10", ["I10"]])
def test_what_is_no_text_is_refused(value: object) -> None:
    with pytest.raises(UserError, match="are text, got"):
        codes.normalise(value, "icd10cm")  # type: ignore[arg-type]


def test_a_message_names_code_system_and_shape_and_a_lost_zero() -> None:
    with pytest.raises(UserError) as error:
        codes.normalise("38.9", "icd9cm")
    message = str(error.value)
    assert "'38.9' is no code of icd9cm; expected 3 digits" in message
    assert "leading zero may have been lost" in message


def test_a_message_holds_sixteen_characters_of_a_wrong_column_at_most() -> None:
    with pytest.raises(UserError) as error:
        codes.normalise("CANARY-0123456789-the patient has", "icd10cm")
    assert "'CANARY-012345678…'" in str(error.value)
    assert "CANARY-0123456789" not in str(error.value)
    with pytest.raises(UserError) as error:
        codes.parse_label("CANARY-0123456789-the patient has")
    assert "CANARY-0123456789" not in str(error.value)


def test_a_diagnosis_and_a_procedure_with_the_same_digits_stay_apart() -> None:
    """The digits 3995 are diagnosis 399.5 and procedure 39.95; diagnosis 039.95 has the digits 03995."""
    diagnosis = codes.make_label("icd9cm", codes.normalise("3995", "icd9cm"))
    procedure = codes.make_label("icd9pcs", codes.normalise("3995", "icd9pcs"))
    assert (diagnosis, procedure) == ("icd9cm:399.5", "icd9pcs:39.95")
    assert codes.normalise("03995", "icd9cm") == "039.95"
    assert codes.at_level(procedure, "chapter") == "icd9pcs:35-39"
    assert codes.at_level("icd9cm:039.95", "chapter") == "icd9cm:001-139"


@pytest.mark.parametrize(
    ("code", "system", "expected"),
    [
        ("E11.65", "icd10cm", ["E11.6", "E11", "E00-E89"]),
        ("I10", "icd10cm", ["I00-I99"]),
        ("S01.00XA", "icd10cm", ["S01.00", "S01.0", "S01", "S00-T88"]),
        ("T14.8XXA", "icd10cm", ["T14.8", "T14", "S00-T88"]),
        ("T36.0X1A", "icd10cm", ["T36.0X1", "T36.0X", "T36.0", "T36", "S00-T88"]),
        ("E888.9", "icd9cm", ["E888", "E000-E999"]),
        ("V42.81", "icd9cm", ["V42.8", "V42", "V01-V91"]),
        ("00.66", "icd9pcs", ["00.6", "00", "00-00"]),
        ("0DTJ4ZZ", "icd10pcs", ["0DT", "0"]),
    ],
)
def test_the_way_up_from_a_code(code: str, system: CodeSystem, expected: list[str]) -> None:
    chain = []
    above: str | None = code
    while (above := codes.parent(above, system)) is not None:
        chain.append(above)
    assert chain == expected


def test_labels_without_a_code_system_have_no_levels() -> None:
    label = "none:evading: growth"
    assert codes.parse_label(label) == ("none", "evading: growth")
    assert codes.at_level(label, "category") == codes.at_level(label, "chapter") == label
    assert codes.parent("evading", "none") is None


@pytest.mark.parametrize("label", ["I10", "icd10:I10", "icd10cm:", ":I10", ""])
def test_what_is_no_label_is_refused(label: str) -> None:
    with pytest.raises(UserError, match="is no label"):
        codes.parse_label(label)


def test_a_chapter_has_no_category() -> None:
    with pytest.raises(UserError):
        codes.at_level("icd10cm:I00-I99", "category")


def test_a_label_of_an_unknown_system_or_without_code_is_not_made() -> None:
    with pytest.raises(UserError, match="unknown code system"):
        codes.make_label("icd11", "I10")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="empty"):
        codes.make_label("icd10cm", "")


def test_every_icd10cm_code_in_use_is_its_own_canonical_form_with_parent_and_chapter() -> None:
    """The package's own hierarchy is the reference: parents one by one, chapters by their number."""
    icd10cm = load_icd10cm()
    # Its items 1 to 22 are the chapters in the book's order, in which U comes last and not before V.
    order = [*(key for key in codes.CHAPTERS["icd10cm"] if key[0] != "U"), "U00-U85"]
    chapter_of_letters: dict[str, set[str]] = {}
    n_codes = 0
    for code in icd10cm.get_all_codes(with_dots=True):
        if not icd10cm.is_category_or_subcategory(code):
            continue
        n_codes += 1
        assert codes.normalise(codes.undot(code), "icd10cm") == code
        above = codes.parent(code, "icd10cm")
        if len(code) > 3:
            assert above == icd10cm.get_parent(code)
        else:
            number = icd10cm.get_ancestors(code)[-1]
            assert above == order[int(number) - 1]
            chapter_of_letters.setdefault(str(above), set()).add(code[0])
    assert n_codes > 90_000
    assert set(chapter_of_letters) == set(order)
