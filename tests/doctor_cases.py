"""What tests of icd doctor share."""

from __future__ import annotations

from pipeline.commands.doctor import examine
from pipeline.commands.findings import Finding
from pipeline.experiment.config import PipelineConfig

CANARY = "ZEBRAFINCH"


def findings_of(config: PipelineConfig, what: str) -> list[Finding]:
    return [one for one in examine(config) if one.what == what]


ROWS = [{"id": "a", "note": f"{CANARY} fever", "codes": "I10"}, {"id": "b", "note": "cough", "codes": "J18.9"}]


OPTIONS = {"document_id": "id", "text": "note"}
