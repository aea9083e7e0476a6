"""The commands of the README with the configs that they name, on small data of the same shape."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

CONFIGS = Path(__file__).parents[1] / "configs"
QUICK = ("train_encoder.n_epochs=1", "train_classifier.n_epochs=2", "evaluate.n_resamples=10", "tokens.max_tokens=64")

pytestmark = pytest.mark.slow


def reports_of_cmc(folder: Path) -> Path:
    """Sixty made-up radiology reports with the codes of a majority and of two coders."""
    findings = {"786.2": "Cough.", "780.6": "Fever.", "599.0": "Urinary tract infection."}
    docs = []
    for number in range(60):
        codes = [code for place, code in enumerate(findings) if (number % 7 + 1) & (1 << place)]
        given = "".join(
            f"<code origin='{origin}' type='ICD-9-CM'>{code}</code>"
            for origin, coded in (("CMC_MAJORITY", codes), ("COMPANY1", codes), ("COMPANY2", codes[:1]))
            for code in coded
        )
        text = (
            f"<text origin='CCHMC_RADIOLOGY' type='CLINICAL_HISTORY'>{' '.join(findings[one] for one in codes)}</text>"
        )
        docs.append(f"<doc id='{number}' type='RADIOLOGY_REPORT'><codes>{given}</codes><texts>{text}</texts></doc>")
    path = folder / "train.xml"
    path.write_text(f"<?xml version='1.0' encoding='utf-8'?>\n<docs>{''.join(docs)}</docs>\n", encoding="utf-8")
    return path


def abstracts_of_hoc(folder: Path) -> Path:
    """Sixty made-up abstracts with nested labels, a few without any, and a split."""
    rows = []
    for number in range(60):
        growth = "Sustaining proliferative signaling"
        labels = [growth, f"{growth}--Receptors"] if number % 2 else ["Avoiding immune destruction"]
        split = {8: "val", 9: "test"}.get(number % 10, "train")
        text = "growth signals of cells" if number % 2 else "immune cells were destroyed"
        if number >= 47:
            labels, text = [], "how an instrument was made"
        rows.append({"document_id": str(number), "text": text, "labels": labels, "split": split})
    path = folder / "hoc.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def demo(_: Path) -> None:
    """The demo makes its own data."""


@pytest.mark.parametrize(
    ("name", "make_raw", "more"),
    [
        ("demo", demo, ("data.options.n_documents=150", "label_space.min_documents=10")),
        ("cmc2007", reports_of_cmc, ("tracking.enabled=false",)),
        ("hoc", abstracts_of_hoc, ("tracking.enabled=false",)),
    ],
)
def test_a_shipped_config_runs_to_its_report(
    tmp_path: Path, name: str, make_raw: Callable[[Path], Path | None], more: tuple[str, ...]
) -> None:
    raw = make_raw(tmp_path)
    settings = [*QUICK, *more, *([] if raw is None else [f"data.raw={raw}"])]
    command = [sys.executable, "-m", "pipeline", "run", str(CONFIGS / f"{name}.yaml")]
    command += [word for one in settings for word in ("--set", one)]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 0, result.stderr
    assert "micro-F1" in result.stdout
    report = (tmp_path / "work" / name / "report.html").read_text(encoding="utf-8")
    assert "Lexical baseline" in report
    assert ("COMPANY1" in report) == (name == "cmc2007"), "human coders stand beside the model where there are any"
