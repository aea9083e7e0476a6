"""The report: complete in itself, safe against markup, bounded, and honest where there is nothing to say."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree as ET

import pandas as pd
import pytest
from report_cases import EVIL, build_content, build_history

from pipeline.evaluation.paired import PairedDifference
from pipeline.evaluation.selective import Taken
from pipeline.evaluation.verdicts import add_verdicts
from pipeline.reports import report
from pipeline.reports.report import render_report, write_report
from pipeline.reports.report_content import Baseline, ReportContent
from pipeline.reports.report_data import count_costs
from pipeline.reports.report_tables import points


@pytest.fixture(scope="module")
def content() -> ReportContent:
    return build_content()


@pytest.fixture(scope="module")
def html(content: ReportContent) -> str:
    return render_report(content)


def test_page_asks_for_nothing_from_a_network(html: str) -> None:
    assert "://" not in html
    assert not re.search(r"\bsrc\s*=|@import|<link|<iframe", html)
    assert all(target.startswith("#") for target in re.findall(r'href="([^"]*)"', html))
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", html))
    assert "default-src 'none'" in html


def test_equal_content_gives_equal_bytes(content: ReportContent, html: str) -> None:
    assert render_report(content) == html


def test_no_id_occurs_twice(html: str) -> None:
    repeated = [name for name, n in Counter(re.findall(r'\bid="([^"]*)"', html)).items() if n > 1]
    assert repeated == []


def test_figures_are_well_formed_and_point_to_their_own_ids(html: str) -> None:
    drawings = re.findall(r"<svg .*?</svg>", html, flags=re.DOTALL)
    assert len(drawings) == 8
    for drawing in drawings:
        ids = {element.get("id") for element in ET.fromstring(drawing).iter()}
        assert set(re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', drawing)) <= {
            pair for name in ids if name for pair in ((name, ""), ("", name))
        }


def test_markup_in_any_value_stays_text(content: ReportContent) -> None:
    names = dict.fromkeys(("experiment", "created", "split", "threshold_note", "coder_note"), EVIL)
    table = pd.DataFrame({EVIL: [EVIL], "name": [EVIL], "micro_f1": [0.4]})
    html = render_report(
        dataclasses.replace(
            content,
            **names,
            label_table=content.label_table.assign(label=EVIL, title=EVIL),
            threshold_curves={EVIL: content.threshold_curves["test"]},
            baseline=Baseline(name=EVIL, metrics=content.metrics, intervals={}, differences={}),
            label_space=table,
            settings={EVIL: {EVIL: EVIL}, "one": EVIL},
            costs=count_costs({EVIL: {"duration_s": 1.0, "facts": {}, "peak_memory_mb": 1}}),
            facts={EVIL: EVIL},
            notes=[EVIL],
        )
    )
    assert html.count("&lt;script&gt;alert") > 20
    assert len(re.findall(r"<script", html)) == 1  # the page's own


def test_first_screen_answers_how_good_how_sure_compared_with_what(content: ReportContent, html: str) -> None:
    first = html[html.index("<main>") : html.index("Beside other systems")]
    baseline = content.baseline
    assert baseline is not None
    for name in ("micro_f1", "macro_f1", "map", "exact_match"):
        assert f'<b class="big">{100 * content.metrics[name]:.1f}</b>' in first
        low, high = content.intervals[name]
        assert f"{100 * low:.1f}–{100 * high:.1f}" in first
        assert f"{100 * baseline.metrics[name]:.1f}<br>" in first
        assert f"<b>{points(baseline.differences[name].difference)}</b>" in first
    assert "without a human" in first
    assert "codes that occur here" in first
    coders = content.coder_comparison
    assert coders is not None
    gold = coders[coders["kind"] == "coder vs gold"]["micro_f1_in_label_space"]
    assert f"{100 * gold.min():.1f}–{100 * gold.max():.1f}" in first


@pytest.mark.parametrize(
    ("difference", "sentence"),
    [
        (PairedDifference(0.05, 0.02, 0.08, 0.01), "The model is 5.0 points of micro-F1 above the SVM (95 % interval"),
        (PairedDifference(-0.05, -0.08, -0.02, 0.01), "The model is 5.0 points of micro-F1 below the SVM"),
        (PairedDifference(0.05, -0.01, 0.08, 0.01), "cannot tell the model and the SVM apart"),
        (PairedDifference(0.05, 0.01, 0.08, 0.2), "cannot tell the model and the SVM apart"),
    ],
)
def test_a_difference_is_called_one_only_where_both_methods_see_it(
    content: ReportContent, difference: PairedDifference, sentence: str
) -> None:
    baseline = Baseline(name="SVM", metrics=content.metrics, intervals={}, differences={"micro_f1": difference})
    assert sentence in render_report(dataclasses.replace(content, baseline=baseline))


def test_what_is_taken_without_a_human_is_said_with_what_it_misses(content: ReportContent) -> None:
    taken = Taken("documents", 0.9, 0.25, 10, 0.9, 0.8, 0.96, 0.5, 0.3)
    shown = dataclasses.replace(content.selective, target=0.95, documents=taken)  # type: ignore[type-var]
    html = render_report(dataclasses.replace(content, selective=shown))
    assert "<b>25.0&nbsp;% of the documents</b> (10)" in html
    assert "50.0&nbsp;% of their given codes are found, and 30.0&nbsp;% of them have exactly" in html
    assert "The precision asked for is not kept here" in html
    nothing = dataclasses.replace(shown, documents=Taken("documents", None, 0, 0, 0, 0, 1, 0, None))
    assert "no document should be taken" in render_report(dataclasses.replace(content, selective=nothing))


def test_cost_shows_what_a_manifest_has(html: str) -> None:
    assert '<td>ingest</td><td class="n">1.5 s</td><td class="n">20</td><td class="n">321</td>' in html
    assert '<td>train encoder</td><td class="n">1 min 23 s</td><td class="n"></td><td class="n">1</td>' in html


def test_coder_sentence_gives_the_mean_agreements(content: ReportContent) -> None:
    """Coders agree at 0.6 and 0.8 with each other, the model at 0.5 with one: means 70 % and 50 %."""
    rows = [("coder vs coder", "a", "b", 0.6), ("coder vs coder", "a", "c", 0.8), ("model vs coder", "model", "a", 0.5)]
    table = pd.DataFrame(rows, columns=["kind", "first", "second", "micro_f1"])
    html = render_report(dataclasses.replace(content, coder_comparison=table, baseline=None))
    assert "agree with each other at a micro-F1 of 70.0 % on average; the model agrees with a coder at 50.0 %" in html


def test_report_without_anything_optional_says_that_it_stands_alone(content: ReportContent) -> None:
    optional = (
        "history",
        "baseline",
        "coder_comparison",
        "selective",
        "confusions",
        "label_space",
        "costs",
    )
    nothing = dict.fromkeys(optional)
    empty: dict[str, dict[str, object]] = {
        name: {} for name in ("intervals", "threshold_curves", "settings", "reliability", "error_distances")
    }
    html = render_report(dataclasses.replace(content, **nothing, **empty))
    assert "the numbers above stand alone" in html
    assert "probability reaches 0.500 (" in html
    assert "<h2>Training</h2>" not in html


def test_a_report_without_any_near_miss_says_nothing_of_them(content: ReportContent) -> None:
    assert content.confusions is not None
    assert render_report(dataclasses.replace(content, confusions=content.confusions[:0].astype(float)))


def test_report_on_val_warns_that_its_scores_flatter(content: ReportContent, html: str) -> None:
    warning = "better than those on new documents"
    assert warning in render_report(dataclasses.replace(content, split="val"))
    assert warning not in html


def test_undefined_scores_of_a_code_are_dashes_and_codes_never_seen_are_left_out(content: ReportContent) -> None:
    """Code a is true but never proposed, b the reverse, c neither, d has a title that is missing."""
    table = pd.DataFrame(
        {
            "label": ["a", "b", "c", "d"], "title": ["A", "B", "C", None], "train_count": [1, 2, 3, 4],
            "n_true": [3, 0, 0, 50], "n_predicted": [0, 2, 0, 50], "n_true_positive": [0, 0, 0, 50],
            "precision": [0.0, 0.0, 0.0, 1.0], "recall": [0.0, 0.0, 0.0, 1.0], "f1": [0.0, 0.0, 0.0, 1.0],
            "n_true_patients": [3, 0, 0, 50], "n_predicted_patients": [0, 2, 0, 50],
        }
    )  # fmt: skip
    html = render_report(dataclasses.replace(content, label_table=add_verdicts(table)))
    rows = html.split('<table id="codes">')[1].split("</table>")[0].split("<tr")[2:]
    cells = [[re.sub(r"<[^>]*>", "", cell).strip() for cell in row.split("<td")[1:]] for row in rows]
    assert [[cell.partition(">")[2] for cell in row] for row in cells] == [
        ["d", "", "trust", "4", "50", "50", "100.0", "92.9–100.0", "100.0", "100.0"],
        ["a", "A", "too few to tell", "1", "3", "0", "–", "–", "0.0", "0.0"],
        ["b", "B", "too few to tell", "2", "0", "2", "0.0", "0.0–65.8", "–", "0.0"],
    ]
    assert re.search(r"\bnan\b", html, flags=re.IGNORECASE) is None


def test_largest_report_stays_below_three_megabytes(content: ReportContent) -> None:
    """30,000 codes with long titles, 40,000 logged steps and a table of 5,000 rows."""
    n_labels = 30_000
    table = pd.concat([content.label_table] * (n_labels // len(content.label_table)), ignore_index=True)
    html = render_report(
        dataclasses.replace(
            content,
            label_table=table.assign(title="Displaced fracture of the shaft, " * 20, n_true=3),
            history=build_history(n_steps=20_000),
            label_space=pd.DataFrame({"text": ["word " * 100] * 5_000}),
        )
    )
    assert len(html.encode()) < 3e6
    assert "the 3000 most frequent are listed" in html
    assert "4800 more rows are not shown" in html


def test_failed_write_leaves_the_old_report(
    content: ReportContent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.html"
    path.write_text("old", encoding="utf-8")

    def no_space(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report, "render_report", lambda _: "new")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", no_space)
        with pytest.raises(OSError, match="No space"):
            write_report(path, content)
    assert [one.read_text(encoding="utf-8") for one in tmp_path.iterdir()] == ["old"]
    write_report(path, content)
    assert [one.read_text(encoding="utf-8") for one in tmp_path.iterdir()] == ["new"]
