"""Ctrl-C and SIGTERM: `icd` ends in one line and leaves no temporary file."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from pipeline.__main__ import main
from pipeline.coding.code_files import writing_codes

PREDICT = ["predict", "--model", "m", "--input", "notes.csv", "--output", "codes.csv"]


def signalled(monkeypatch: pytest.MonkeyPatch, folder: Path, number: int) -> None:
    """Have `icd predict` get a signal while it writes."""

    def code_documents(*_: object, **__: object) -> None:
        with writing_codes(folder / "codes.csv"):
            assert list(folder.iterdir())
            os.kill(os.getpid(), number)
            time.sleep(5)

    monkeypatch.setattr("pipeline.coding.proposals.code_documents", code_documents)


def test_sigterm_ends_as_an_error_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signalled(monkeypatch, tmp_path, signal.SIGTERM)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as end:
        main(PREDICT)
    assert end.value.code == 143
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) == before


def test_ctrl_c_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    signalled(monkeypatch, tmp_path, signal.SIGINT)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    try:
        assert main(PREDICT) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err == "interrupted\n"
    assert list(tmp_path.iterdir()) == []
