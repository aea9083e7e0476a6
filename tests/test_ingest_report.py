"""The report of an ingestion: counts beside published ones, examples."""

from __future__ import annotations

from pipeline.notes.ingest_report import IngestReport


def test_published_counts_stand_beside_those_found() -> None:
    report = IngestReport({"documents": 3, "patients": 2, "labels": 1})
    report.count("documents", 3)
    report.count("patients")
    assert report.as_dict()["published"] == {
        "documents": {"published": 3, "found": 3, "matches": True, "verdict": "pass"},
        "patients": {"published": 2, "found": 1, "matches": False, "verdict": "differs"},
        "labels": {"published": 1, "found": 0, "matches": False, "verdict": "not counted"},
    }


def test_published_counts_of_a_whole_data_set_are_not_held_against_a_part_of_it() -> None:
    """The first count tells the size: 94 of 100 documents are a part, 95 the whole with some missing."""
    for n, verdict in ((94, "other size"), (95, "differs"), (106, "other size")):
        report = IngestReport({"documents": 100})
        report.count("documents", n)
        assert report.as_dict()["published"]["documents"]["verdict"] == verdict


def test_a_report_keeps_twenty_places_a_reason_but_counts_all() -> None:
    report = IngestReport()
    for number in range(50):
        report.drop("broken_row", f"row {number}")
    report.drop("broken_row", n=5)
    assert report.as_dict()["dropped"] == {"broken_row": 55}
    assert report.as_dict()["examples"]["broken_row"] == [f"row {number}" for number in range(20)]
