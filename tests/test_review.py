"""The review page: what it shows and leaves out, and where it may be written."""

from __future__ import annotations

import json
import logging
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from review_cases import HOSTILE, SECRET, code, hostile_page, in_git, shown, write_codes, write_notes

from pipeline.__main__ import main
from pipeline.coding.code_files import text_digest
from pipeline.errors import UserError
from pipeline.reports.review import checked_output, collect, embedded_json, render, utf16_offsets, write_review


def test_notes_and_codes_are_joined_in_the_order_of_the_predictions(tmp_path: Path) -> None:
    predictions = write_codes(tmp_path / "c.jsonl", ("b", [code("I10", 0.9)]), ("a", []), ("gone", [code("I10", 0.9)]))
    review = collect(predictions, write_notes(tmp_path / "n.jsonl", a="x", other="y", b="z"), max_documents=100)
    assert [(one["id"], one["text"], len(one["codes"])) for one in review.documents] == [("b", "z", 1), ("a", "x", 0)]
    assert (review.missing, review.misfits, review.n_codes, review.n_left_out) == (["gone"], [], 1, 0)


def test_the_first_documents_are_shown_and_the_others_counted(tmp_path: Path) -> None:
    predictions = write_codes(tmp_path / "c.parquet", *((f"d{number}", []) for number in range(5)))
    notes = write_notes(tmp_path / "n.jsonl", **{f"d{number}": "" for number in range(5)})
    review = collect(predictions, notes, max_documents=2)
    assert ([one["id"] for one in review.documents], review.n_left_out) == (["d0", "d1"], 3)


def test_evidence_counts_utf16_units_and_names_section_and_sentence(tmp_path: Path) -> None:
    """The face in front of "fever" is one character and two units; by hand, "PMH: \U0001f600 none. " are 13 units."""
    text = "PMH: \U0001f600 none. Fever today."
    predictions = write_codes(tmp_path / "c.jsonl", ("a", [code("R50", 0.9, (13, 18))]))
    (one,) = shown(predictions, write_notes(tmp_path / "n.jsonl", a=text))
    assert text[13:18] == "Fever"
    assert one["codes"][0]["evidence"] == [[14, 19, 0.5, "past medical history", 14, 26, "encoder"]]


@pytest.mark.parametrize(("offset", "expected"), [(0, 0), (1, 1), (2, 3), (3, 4), (4, 6)])
def test_an_offset_grows_by_one_for_each_wide_character_before_it(offset: int, expected: int) -> None:
    text = "a\U0001f600b\U0001f600"
    assert utf16_offsets(text)(offset) == expected == len(text[:offset].encode("utf-16-le")) // 2


@pytest.mark.parametrize("span", [(0, 99), (-1, 2), (3, 3)])
def test_evidence_of_another_text_is_not_shown_but_counted(tmp_path: Path, span: tuple[int, int]) -> None:
    predictions = write_codes(tmp_path / "c.jsonl", ("a", [code("R50", 0.9, span)]))
    review = collect(predictions, write_notes(tmp_path / "n.jsonl", a="short"), max_documents=9)
    assert (review.misfits, review.documents[0]["codes"][0]["evidence"]) == (["a"], [])


RAW, CLEANED = "Impression:\r\nhigh fever", "Impression:\nhigh fever"


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize(("note", "fits"), [(CLEANED, True), (RAW, False)])
def test_evidence_of_another_version_of_the_note_marks_nothing_though_all_offsets_lie_within(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str, note: str, fits: bool
) -> None:
    coded = ("a", [code("R50", 0.9, (17, 22))], text_digest(CLEANED))
    predictions = write_codes(tmp_path / f"c.{suffix}", coded)
    notes = write_notes(tmp_path / "n.jsonl", a=note)
    review = collect(predictions, notes, max_documents=9)
    (shown_code,) = review.documents[0]["codes"]
    assert (review.misfits, review.documents[0]["fits"]) == ([] if fits else ["a"], fits)
    assert [note[start:end] for start, end, *_ in shown_code["evidence"]] == (["fever"] if fits else [])
    said = "1 documents were coded from another text than their note"
    assert (said in render(review)) != fits
    with caplog.at_level(logging.WARNING):
        write_review(predictions, notes, tmp_path / "review.html", max_documents=9)
    assert (said in caplog.text) != fits


def test_another_note_under_the_id_of_one_without_evidence_is_told(tmp_path: Path) -> None:
    predictions = write_codes(tmp_path / "c.jsonl", ("a", [code("R50", 0.9)], text_digest("the note that was coded")))
    review = collect(predictions, write_notes(tmp_path / "n.jsonl", a="another patient's note"), max_documents=9)
    assert (review.misfits, review.documents[0]["fits"]) == (["a"], False)


def test_codes_that_do_not_say_what_they_were_made_from_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    predictions = write_codes(tmp_path / "c.jsonl", ("a", [code("R50", 0.9)]))
    notes = write_notes(tmp_path / "n.jsonl", a="fever")
    with caplog.at_level(logging.WARNING):
        write_review(predictions, notes, tmp_path / "review.html", max_documents=9)
    said = "1 documents do not say from which text they were coded"
    assert said in caplog.text
    assert said in (tmp_path / "review.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("", []),
        ("___ ___ [**Name**]\n___", [(0, 3)]),
        ("\0\x01\x1b[31m\ufffd\x7f" * 50, [(3, 8)]),
        ("Le patient présente une pneumonie. 患者有肺炎和发烧。", [(23, 32), (36, 39)]),
        ("fever and chills. " * 66_667, [(1_100_000, 1_100_005)]),
    ],
    ids=["empty", "placeholders", "garbage", "other languages", "200,000 words"],
)
def test_any_note_makes_a_page(tmp_path: Path, text: str, spans: list[tuple[int, int]]) -> None:
    predictions = write_codes(tmp_path / "c.jsonl", ("a", [code("R50", 0.9, *spans)]))
    page = render(collect(predictions, write_notes(tmp_path / "n.jsonl", a=text), max_documents=9))
    (one,) = embedded(page)["documents"]
    assert one["text"] == text
    assert len(one["codes"][0]["evidence"]) == len(spans)
    for start, end, _, _, sentence_start, sentence_end, _ in one["codes"][0]["evidence"]:
        assert 0 <= sentence_start <= start < end <= sentence_end <= len(text)


class Scripts(HTMLParser):
    """Script elements of a page and the text in them, as a parser sees them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.scripts: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "script":
            self.scripts[-1] += data


def embedded(page: str) -> Any:
    parser = Scripts()
    parser.feed(page)
    return json.loads(parser.scripts[0])


def test_markup_of_notes_ids_and_codes_is_no_markup_of_the_page(tmp_path: Path) -> None:
    page = hostile_page(tmp_path)
    parser = Scripts()
    parser.feed(page)
    assert len(parser.scripts) == 2
    assert not {"img", "b", "i", "u"} & set(parser.tags)
    assert embedded(page)["documents"][0]["text"] == HOSTILE
    assert "\u2028" not in page
    assert "&lt;u&gt;gone&lt;/u&gt;" in page


def test_nothing_in_json_can_end_its_script_element() -> None:
    content = ["</script>", "<!--", "]]>", "&", "\u2028\u2029", "é\U0001f600"]
    text = embedded_json(content)
    assert json.loads(text) == content
    assert not re.search(r"[<>&\u2028\u2029]", text)


def test_the_page_allows_no_script_but_its_own_and_nothing_from_elsewhere(tmp_path: Path) -> None:
    page = hostile_page(tmp_path)
    policy = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    assert len(policy) == 1
    assert policy[0].startswith("default-src 'none'")
    assert "unsafe" not in policy[0]
    assert not re.search(r"""(?:src|href)\s*=\s*["']|https?://|@import|url\(""", page.split('id="data"')[0])


@pytest.fixture
def inputs(tmp_path: Path) -> tuple[Path, str]:
    text = f"{SECRET} has fever."
    predictions = write_codes(tmp_path / "c.jsonl", ("a", [code("R50", 0.9, (15, 20))]), ("gone", []))
    return predictions, write_notes(tmp_path / "n.jsonl", a=text)


def test_the_page_is_for_its_owner_and_its_making_says_counts_and_no_text(
    tmp_path: Path, inputs: tuple[Path, str], caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "review.html"
    with caplog.at_level(logging.INFO):
        assert main(["review", str(inputs[0]), "--notes", inputs[1], "--output", str(output)]) == 0
    assert output.stat().st_mode & 0o777 == 0o600
    assert SECRET in output.read_text(encoding="utf-8")
    said = caplog.text + "".join(capsys.readouterr())
    for expected in ("1 documents, 1 codes", "1 documents have codes but no note (first: gone)", "holds text of"):
        assert expected in said
    assert SECRET not in said


def test_without_output_the_page_lies_beside_predictions_below_work_and_nowhere_else(
    tmp_path: Path, inputs: tuple[Path, str]
) -> None:
    with pytest.raises(UserError, match="lies under no folder named work; say with --output"):
        write_review(*inputs, None, max_documents=9)
    (tmp_path / "work" / "a").mkdir(parents=True)
    moved = inputs[0].rename(tmp_path / "work" / "a" / "c.jsonl")
    assert write_review(moved, inputs[1], None, max_documents=9) == tmp_path / "work" / "a" / "review.html"


def test_a_place_that_git_would_pick_up_is_refused_and_an_ignored_one_is_not(tmp_path: Path) -> None:
    folder = in_git(tmp_path / "checkout")
    for name in ("docs/review.html", "review.html", "docs/../docs/review.html"):
        with pytest.raises(UserError, match="git would pick it up there"):
            checked_output(folder / name, tmp_path / "c.jsonl")
    assert checked_output(folder / "work" / "review.html", tmp_path / "c.jsonl") == folder / "work" / "review.html"
    with (folder / ".gitignore").open("a") as file:
        file.write("/docs/own.html\n")  # only the page itself, not what a killed process would leave beside it
    with pytest.raises(UserError, match="git would pick it up there"):
        checked_output(folder / "docs" / "own.html", tmp_path / "c.jsonl")
    (tmp_path / "link").symlink_to(folder / "docs")
    with pytest.raises(UserError, match="git would pick it up there"):
        checked_output(tmp_path / "link" / "review.html", tmp_path / "c.jsonl")


def test_where_git_cannot_be_asked_a_checkout_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = in_git(tmp_path / "checkout")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="git would pick it up there"):
        checked_output(folder / "work" / "review.html", tmp_path / "c.jsonl")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mlruns/artifacts/review.html", "never goes into mlruns"),
        ("tracked/artifacts/review.html", "never goes into mlruns or another tracking.dir"),
        ("none/review.html", "does not exist; make it first"),
        (f"{'a' * 300}.html", "longer than the file system takes"),
        ("review.txt", "expected a name that ends in .html"),
    ],
)
def test_a_place_where_no_page_belongs_is_refused(tmp_path: Path, name: str, message: str) -> None:
    for folder in ("mlruns", "tracked"):
        (tmp_path / folder / "artifacts").mkdir(parents=True)
    (tmp_path / "tracked" / "mlflow.db").touch()
    with pytest.raises(UserError, match=message):
        write_review(tmp_path / "c.jsonl", "notes.jsonl", tmp_path / name, max_documents=9)


def test_a_failure_leaves_the_page_that_was_there(tmp_path: Path, inputs: tuple[Path, str]) -> None:
    output = tmp_path / "review.html"
    output.write_text("earlier")
    other = write_notes(tmp_path / "other.jsonl", somebody="x")
    with pytest.raises(UserError, match="none of its 2 documents is among the notes"):
        write_review(inputs[0], other, output, max_documents=9)
    assert output.read_text() == "earlier"
    assert not list(tmp_path.glob(".review*"))


def test_an_id_that_comes_twice_is_refused(tmp_path: Path, inputs: tuple[Path, str]) -> None:
    twice = tmp_path / "twice.jsonl"
    twice.write_text(Path(inputs[1]).read_text() * 2)
    with pytest.raises(UserError, match=r"twice\.jsonl: document 2 has the id of an earlier one"):
        collect(inputs[0], str(twice), max_documents=9)
    again = write_codes(tmp_path / "again.jsonl", ("a", []), ("a", []))
    with pytest.raises(UserError, match=r"again\.jsonl: document 2 has the id of an earlier one"):
        collect(again, inputs[1], max_documents=9)
