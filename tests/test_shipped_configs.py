"""The configs that the README names, on small data of the same shape, all stages in this process.

As processes of their own, under Snakemake, stages run in test_pipeline.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.experiment.config import STAGE_SECTIONS, PipelineConfig
from pipeline.experiment.config_files import load_config

CONFIGS = Path(__file__).parents[1] / "configs"
QUICK = (
    "train_encoder.n_epochs=1", "train_classifier.n_epochs=2", "evaluate.n_resamples=10", "tokens.max_tokens=64",
    "tracking.enabled=false", "compute.n_workers=0",
)  # fmt: skip

pytestmark = pytest.mark.slow


def reports_of_cmc(folder: Path) -> list[str]:
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
    return [f"data.raw={path}"]


def abstracts_of_hoc(folder: Path) -> list[str]:
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
    return [f"data.raw={path}"]


def notes_of_ones_own(folder: Path) -> list[str]:
    """Sixty made-up notes of thirty patients as a CSV."""
    words = {"I10": "high blood pressure", "E11.9": "type 2 diabetes", "J18.9": "pneumonia"}
    lines = ["document_id,patient_id,text,codes"]
    for number in range(60):
        codes = [code for place, code in enumerate(words) if (number % 7 + 1) & (1 << place)]
        said = " and ".join(words[code] for code in codes)
        lines.append(f'{number},{number // 2},"Admitted with {said}, improved.",{";".join(codes)}')
    path = folder / "notes.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [f"data.raw={path}"]


def smaller_demo(_: Path) -> list[str]:
    """The demo makes its own data."""
    return ["data.options.n_documents=150", "label_space.min_documents=10"]


@pytest.mark.parametrize(
    ("name", "data_settings"),
    [
        ("demo", smaller_demo),
        ("cmc2007", reports_of_cmc),
        ("hoc", abstracts_of_hoc),
        ("own_notes", notes_of_ones_own),
    ],
)
def test_a_shipped_config_runs_to_its_report(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run_stages: Callable[[PipelineConfig, str], None],
    name: str,
    data_settings: Callable[[Path], list[str]],
) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_config(CONFIGS / f"{name}.yaml", [*QUICK, *data_settings(tmp_path)])
    run_stages(config, " ".join(STAGE_SECTIONS))
    report = (tmp_path / "work" / name / "report.html").read_text(encoding="utf-8")
    assert "Lexical baseline" in report
    assert ("COMPANY1" in report) == (name == "cmc2007"), "human coders stand beside the model where there are any"
