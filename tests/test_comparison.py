"""Comparison of runs: what is refused and why, order of documents, the page, and run ids of MLflow."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.__main__ import main
from pipeline.errors import UserError
from pipeline.experiment.config import PipelineConfig
from pipeline.experiment.tracking import experiment_dir_of_run, finish_parent_run, start_parent_run
from pipeline.files import write_json
from pipeline.icd.labels import LabelSpace
from pipeline.notes.documents import DOCUMENT_SCHEMA
from pipeline.reports.comparison import compare_runs, find_run, render_comparison, verdict
from pipeline.stages.predict import prediction_schema

LABELS = ("icd10cm:E11.9", "icd10cm:I10", "icd10cm:N17.9")
TITLE = "Type 2 diabetes <script>"
N = 60


def write_run(
    folder: Path,
    *,
    noise: float,
    split: str = "test",
    labels: tuple[str, ...] = LABELS,
    documents: range = range(N),
    turned: bool = False,
    gold_of_first: list[str] | None = None,
    n_copies: int = 1,
) -> Path:
    """A finished run over made-up documents: more noise, more errors. Each patient has copies of one document."""
    folder.mkdir(exist_ok=True)
    generator = np.random.default_rng(0)
    truth = generator.random((N, len(labels))) < 0.4
    probabilities = ((truth + noise * generator.random(truth.shape)) / (1 + noise)).astype(np.float32)
    gold = [[label for label, is_true in zip(labels, row, strict=True) if is_true] for row in truth]
    gold[0] = gold[0] if gold_of_first is None else gold_of_first
    rows = [
        {
            "document_id": f"d{n}" + f"-{copy}" * (copy > 0), "patient_id": f"p{n}", "text": "SECRET",
            "labels": gold[n], "given_split": None,
        }
        for n in documents
        for copy in range(n_copies)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows, DOCUMENT_SCHEMA), folder / "documents.parquet")
    predictions = [
        {
            "document_id": f"d{n}" + f"-{copy}" * (copy > 0), "split": split,
            "probabilities": one.tolist(), "predicted": np.flatnonzero(one > 0.5),
        }
        for n, one in ((n, probabilities[n]) for n in (reversed(documents) if turned else documents))
        for copy in range(n_copies)
    ]  # fmt: skip
    table = pa.Table.from_pylist(predictions, prediction_schema(len(labels)))
    pq.write_table(table, folder / "predictions.parquet")
    LabelSpace(labels, (TITLE, None, None)[: len(labels)], (20,) * len(labels)).save(folder / "label_space.json")
    write_json(folder / "metrics.json", {"split": split})
    return folder


def test_runs_are_joined_by_document_whatever_their_order(tmp_path: Path) -> None:
    a, b = (write_run(tmp_path / name, noise=2.0, turned=name == "b") for name in "ab")
    found = compare_runs(a, b, n_resamples=20)
    assert {one.difference for one in found.differences.values()} == {0.0}
    assert "cannot tell the two apart" in verdict(found)
    assert (found.name_a, found.name_b, found.n_documents, found.n_labels) == ("a", "b", N, 3)


def test_the_better_run_is_named_whichever_comes_first(tmp_path: Path) -> None:
    good, bad = write_run(tmp_path / "good", noise=0.5), write_run(tmp_path / "bad", noise=6.0)
    assert verdict(compare_runs(good, bad, n_resamples=200)).startswith("A (good) is better than B (bad) by")
    found = compare_runs(bad, good, n_resamples=200)
    assert verdict(found).startswith("B (good) is better than A (bad) by")
    assert set(found.wins["winner"]) <= {"B", ""}
    assert found.differences["micro_f1"].difference < 0


def test_four_copies_of_each_patients_document_make_no_difference_surer(tmp_path: Path) -> None:
    """The patient is what is drawn, changes sides and counts for a run, so nothing but counts of documents changes."""
    once, copied = (
        compare_runs(
            write_run(tmp_path / f"a{n_copies}", noise=1.5, documents=range(19), n_copies=n_copies),
            write_run(tmp_path / f"b{n_copies}", noise=3.0, documents=range(19), n_copies=n_copies),
            n_resamples=60,
        )
        for n_copies in (1, 4)
    )
    assert (once.n_documents, copied.n_documents) == (19, 76)
    assert any(0.02 < one.p_value < 1 for one in once.differences.values())
    assert copied.differences == {name: pytest.approx(one) for name, one in once.differences.items()}
    assert (once.wins["n_only_a_right"] > once.wins["n_only_b_right"]).any()
    same = ["label", "f1_a", "f1_b", "p_value", "winner"]
    assert copied.wins[same].equals(once.wins[same])
    assert copied.wins["n_only_a_right"].tolist() == (4 * once.wins["n_only_a_right"]).tolist()
    assert copied.few_patients is not None
    assert "76 documents are of 19 patients" in copied.few_patients


def test_a_split_that_is_not_held_out_is_told_on_the_page(tmp_path: Path) -> None:
    a, b = (write_run(tmp_path / name, noise=1.0, split="val") for name in "ab")
    html = render_comparison(compare_runs(a, b, n_resamples=20))
    assert "Split val took part in training or in the choice of epoch and threshold" in html
    a, b = (write_run(tmp_path / f"{name}_test", noise=1.0) for name in "ab")
    assert "took part in training" not in render_comparison(compare_runs(a, b, n_resamples=20))


def test_page_holds_table_figure_and_codes_and_asks_nothing_from_a_network(tmp_path: Path) -> None:
    found = compare_runs(write_run(tmp_path / "a", noise=0.5), write_run(tmp_path / "b", noise=6.0), n_resamples=50)
    html = render_comparison(found)
    assert "<svg" in html
    assert f'<td class="n">{100 * found.scores_a["micro_f1"]:.1f}</td>' in html
    assert html.count("<td>icd10cm:") == 3
    assert "Type 2 diabetes &lt;script&gt;" in html
    assert "SECRET" not in html
    assert "://" not in html
    assert not re.search(r"\bsrc\s*=|@import|<link|<iframe", html)
    assert html == render_comparison(found)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": LABELS[:2]}, r"label spaces: .*a has 3 codes .*b has 2 .*1 only in the first \(such as icd10"),
        ({"documents": range(2, N)}, r"documents of split test: .*a has 60, .*b has 58; 2 only in the first \(such"),
        ({"gold_of_first": []}, r"the gold labels of 1 documents differ .*first: d0"),
        ({"split": "val"}, r"a was evaluated on split test, .*b on val"),
    ],
)  # fmt: skip
def test_runs_that_cannot_be_compared_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    a, b = write_run(tmp_path / "a", noise=1.0, gold_of_first=[LABELS[0]]), tmp_path / "b"
    with pytest.raises(UserError, match=message):
        compare_runs(a, write_run(b, noise=1.0, **({"gold_of_first": [LABELS[0]]} | options)), n_resamples=5)


def test_command_prints_the_table_and_ends_with_two_for_a_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = write_run(tmp_path / "a", noise=0.5), write_run(tmp_path / "b", noise=6.0)
    assert main(["compare", str(a), str(b), "--output", str(tmp_path / "c.html")]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"micro_f1 +\d\.\d{3} +\d\.\d{3} +\+\d\.\d{3} +\+\d\.\d{3} to", printed)
    assert (tmp_path / "c.html").stat().st_size < 3e6
    (b / "metrics.json").unlink()
    assert main(["compare", str(a), str(b)]) == 2
    assert "metrics.json is missing; run the stage 'evaluate' first" in capsys.readouterr().err
    (tmp_path / "grid" / "members").mkdir(parents=True)
    assert main(["compare", str(a), str(tmp_path / "grid")]) == 2
    assert "is a grid; its table is" in capsys.readouterr().err
    assert main(["compare", str(a), "nowhere"]) == 2
    assert "'nowhere' is neither a work folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("codes.csv", "expected a name that ends in .html"),
        (".", "expected a name that ends in .html"),
        ("folder.html", "expected a name that ends in .html"),
        ("no/c.html", "does not exist; make it first"),
    ],
)
def test_a_page_that_cannot_be_there_is_refused_before_anything_is_computed(
    tmp_path: Path, name: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "codes.csv").write_text("earlier")
    (tmp_path / "folder.html").mkdir()
    assert main(["compare", "nowhere", "nowhere", "--output", str(tmp_path / name)]) == 2
    assert message in capsys.readouterr().err
    assert (tmp_path / "codes.csv").read_text() == "earlier"


@pytest.mark.slow
def test_a_run_id_leads_to_the_folder_as_long_as_it_holds_that_run(
    tmp_path: Path, make_config: Callable[..., PipelineConfig]
) -> None:
    tracking_dir = tmp_path / "mlruns"
    with pytest.raises(UserError, match="there is no MLflow store"):
        find_run("0" * 32, tracking_dir)
    tracking = {"enabled": True, "dir": str(tracking_dir)}
    config = make_config(tracking=tracking)
    run_id = start_parent_run(config)
    finish_parent_run(config, succeeded=True)
    assert run_id is not None
    assert find_run(run_id, tracking_dir) == config.experiment_dir
    with pytest.raises(UserError, match="has no such run"):
        experiment_dir_of_run(tracking_dir, "0" * 32)
    start_parent_run(make_config(tracking=tracking, seed=7))
    with pytest.raises(UserError, match="holds a later run by now"):
        experiment_dir_of_run(tracking_dir, run_id)
