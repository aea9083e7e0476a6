"""The whole pipeline as a user runs it: processes of their own, real encoder, real Snakemake and MLflow."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from pipeline.__main__ import main

MARKER = "Xqzvcanary"
CODES = {"I10": "hypertension", "E11.9": "diabetes", "N17.9": "kidney injury", "J18.9": "pneumonia"}
CONFIG = """
experiment: small
data:
  recipe: table
  raw: notes.jsonl
  options: {patient_id: patient}
encoding: {n_frozen_layers: 5, cache_frozen_layers: true, chunk_tokens: 64, lora_rank: 4}
train_encoder: {n_epochs: 1, global_batch_size: 16}
train_classifier: {n_epochs: 2, global_batch_size: 16}
predict: {evidence: true}
evaluate: {n_resamples: 20}
compute: {n_workers: 0}
"""
STAGES = ["ingest", "split", "tokenize", "train_encoder", "train_classifier", "predict", "evaluate"]

pytestmark = pytest.mark.slow


def write_notes(path: Path, n_documents: int = 80) -> None:
    """Made-up notes that name their codes; every text carries the marker."""
    chance = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for index in range(n_documents):
            codes = chance.sample(sorted(CODES), k=chance.choice([1, 2]))
            text = f"Patient with {' and '.join(CODES[code] for code in codes)}. {MARKER}{index} stable."
            row = {"document_id": f"d{index}", "patient": f"p{index // 2}", "text": text, "codes": codes}
            file.write(json.dumps(row) + "\n")


def icd(folder: Path, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Run the `icd` command in a folder."""
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments],
        cwd=folder, capture_output=True, text=True, timeout=600, check=False, **options,  # type: ignore[call-overload]
    )  # fmt: skip


def stages_run(folder: Path, since: float) -> list[str]:
    """Stages whose manifest was written since a time, in the order of the DAG."""
    manifests = folder / "work" / "small" / "manifests"
    return [stage for stage in STAGES if (manifests / f"{stage}.json").stat().st_mtime > since]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the pipeline ran to its end."""
    folder = tmp_path_factory.mktemp("pipeline")
    write_notes(folder / "notes.jsonl")
    (folder / "small.yaml").write_text(CONFIG, encoding="utf-8")
    result = icd(folder, "run", "small.yaml")
    assert result.returncode == 0, result.stderr
    (folder / "output.txt").write_text(result.stdout + result.stderr, encoding="utf-8")
    return folder


def test_a_run_writes_every_artifact_and_prints_scores_report_and_next_commands(finished: Path) -> None:
    work = finished / "work" / "small"
    for name in ("documents.parquet", "tokens", "encoder", "classifier", "predictions.parquet", "report.html"):
        assert (work / name).exists()
    assert work.stat().st_mode & 0o077 == 0, "patients' text is its owner's alone"
    scores = json.loads((work / "metrics.json").read_text())["scores"]
    output = (finished / "output.txt").read_text()
    assert f"micro-F1   {scores['micro_f1']:.3f}" in output
    for expected in ("macro-F1", "MAP", "P@5", "report.html", "icd predict --model", "icd ui"):
        assert expected in output


def test_no_text_of_a_document_leaves_the_work_folder_or_enters_a_report(finished: Path) -> None:
    allowed = {"documents.parquet", "notes.jsonl"}
    searched = [
        path for path in finished.rglob("*") if path.is_file() and path.name not in allowed and path.suffix != ".arrow"
    ]
    assert len(searched) > 50
    assert [path for path in searched if MARKER.lower().encode() in path.read_bytes().lower()] == []


def test_a_second_run_does_nothing(finished: Path) -> None:
    now = time.time()
    result = icd(finished, "run", "small.yaml")
    assert result.returncode == 0, result.stderr
    assert stages_run(finished, now) == []


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("evaluate.n_resamples=21", ["evaluate"]),
        ("predict.micro_batch_tokens=512", ["predict", "evaluate"]),
        ("train_classifier.head_dropout=0.2", ["train_classifier", "predict", "evaluate"]),
    ],
)
def test_a_changed_setting_reruns_exactly_the_stages_that_depend_on_it(
    finished: Path, tmp_path: Path, setting: str, expected: list[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    shown = icd(
        copy, "run", "small.yaml", "--set", f"data.raw={finished / 'notes.jsonl'}", "--set", setting, "--dry-run"
    )
    assert shown.returncode == 0, shown.stderr
    planned = re.findall(r"^(?:local)?rule (\w+):", shown.stdout + shown.stderr, flags=re.MULTILINE)
    assert sorted(set(planned) - {"all"}) == sorted(expected)


def test_a_changed_setting_is_run_and_an_unchanged_part_is_kept(finished: Path) -> None:
    now = time.time()
    result = icd(finished, "run", "small.yaml", "--set", "evaluate.n_resamples=30")
    assert result.returncode == 0, result.stderr
    assert stages_run(finished, now) == ["evaluate"]


def test_a_removed_artifact_is_made_again(finished: Path) -> None:
    (finished / "work" / "small" / "predictions.parquet").unlink()
    now = time.time()
    assert icd(finished, "run", "small.yaml").returncode == 0
    assert stages_run(finished, now) == ["predict", "evaluate"]


def test_a_users_mistake_in_a_stage_gives_one_message_and_exit_2_and_keeps_what_was_there(finished: Path) -> None:
    before = (finished / "work" / "small" / "classifier" / "classifier.json").read_bytes()
    result = icd(finished, "run", "small.yaml", "--set", "label_space.min_documents=10000")
    assert result.returncode == 2
    assert "error: stage split: the label space is empty" in result.stderr
    assert "Traceback" not in result.stderr
    assert (finished / "work" / "small" / "classifier" / "classifier.json").read_bytes() == before
    now = time.time()
    assert icd(finished, "run", "small.yaml").returncode == 0
    assert stages_run(finished, now) == []  # put back as it was; nothing runs again


def test_predict_codes_new_documents_the_same_way_as_the_stage(finished: Path) -> None:
    (finished / "new.csv").write_text("document_id,text\n007,pneumonia\n008,\n", encoding="utf-8")
    model = str(finished / "work" / "small" / "classifier")
    result = icd(finished, "predict", "--model", model, "--input", "new.csv", "--output", "codes.jsonl", "--top-k", "2")
    assert result.returncode == 0, result.stderr
    rows = [json.loads(line) for line in (finished / "codes.jsonl").read_text().splitlines()]
    assert [row["document_id"] for row in rows] == ["007", "008"]
    assert [len(row["codes"]) for row in rows] == [2, 0]
    assert rows[0]["codes"][0]["title"]


LOAD_MODEL = """
import pandas, pipeline, mlflow
mlflow.set_tracking_uri("sqlite:///mlruns/mlflow.db")
model = mlflow.search_logged_models(output_format="list")[0]
loaded = mlflow.pyfunc.load_model(model.model_uri)
table = pandas.DataFrame({"document_id": ["007", "008"], "text": ["pneumonia and diabetes", ""]})
print(loaded.predict(table).to_json(orient="records"))
"""


def test_the_model_in_mlflow_proposes_the_codes_that_predict_proposes(finished: Path) -> None:
    (finished / "pair.csv").write_text("document_id,text\n007,pneumonia and diabetes\n008,\n", encoding="utf-8")
    model = str(finished / "work" / "small" / "classifier")
    result = icd(finished, "predict", "--model", model, "--input", "pair.csv", "--output", "pair.jsonl")
    assert result.returncode == 0, result.stderr
    wanted = [
        {"document_id": document["document_id"], **code}
        for document in map(json.loads, (finished / "pair.jsonl").read_text().splitlines())
        for code in document["codes"]
    ]
    command = [sys.executable, "-c", LOAD_MODEL]
    loaded = subprocess.run(command, cwd=finished, capture_output=True, text=True, timeout=300, check=False)
    assert loaded.returncode == 0, loaded.stderr
    rows = json.loads(loaded.stdout.splitlines()[-1])
    assert [(row["document_id"], row["code"]) for row in rows] == [(row["document_id"], row["code"]) for row in wanted]
    assert [row["probability"] for row in rows] == pytest.approx([row["probability"] for row in wanted], abs=1e-5)
    assert rows, "nothing was proposed, so nothing was compared"


def test_ui_serves_the_runs_on_this_machine_alone(finished: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "pipeline", "ui", "--port", str(port)]
    with subprocess.Popen(command, cwd=finished, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                          start_new_session=True) as server:  # fmt: skip
        try:
            assert server.stdout is not None
            assert server.stdout.readline().startswith(f"MLflow: http://127.0.0.1:{port}/#/experiments/")
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as page:  # it answers by now
                assert "MLflow" in page.read().decode()
            second = icd(finished, "ui", "--port", str(port))
            assert second.returncode == 2
            assert "another program answers there" in second.stderr
            server.terminate()
            assert server.wait(timeout=20) == 0
            with pytest.raises(urllib.error.URLError):  # no process is left that holds the port
                for _ in range(100):
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20).close()
                    time.sleep(0.1)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)


def test_a_page_without_runs_or_on_no_port_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ui", "--tracking-dir", str(tmp_path / "mlrun")]) == 2
    assert "no runs were tracked there yet" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    with pytest.raises(SystemExit) as ended:
        main(["ui", "--port", "99999"])
    assert ended.value.code == 2
    assert "must be 1 to 65535, got 99999" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["run", "study.yaml", "--cores", "few"])
    assert "must be 1 or more, got few" in capsys.readouterr().err


def test_doctor_review_and_compare_work_on_a_finished_run(finished: Path) -> None:
    doctor = icd(finished, "doctor", "small.yaml")
    assert doctor.returncode == 0, doctor.stdout
    assert "0 warnings" in doctor.stdout
    predictions = "work/small/predictions.parquet"
    review = icd(finished, "review", predictions, "--notes", "notes.jsonl", "--output", "work/review.html")
    assert review.returncode == 0, review.stderr
    assert MARKER in (finished / "work" / "review.html").read_text(encoding="utf-8"), "the page shows the notes"
    compare = icd(finished, "compare", "work/small", "work/small", "--output", "same.html")
    assert compare.returncode == 0, compare.stderr
    assert re.search(r"micro_f1 .*\+0\.000", compare.stdout)
    assert MARKER not in (finished / "same.html").read_text(encoding="utf-8")


def test_mlflow_has_one_parent_with_a_child_per_stage(finished: Path) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{finished}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("icd-contrast")
    runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])
    first = next(run for run in runs if run.info.run_name == "small")
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == first.info.run_id]
    assert [run.info.run_name for run in children][:7] == [f"small/{stage}" for stage in STAGES]
    assert first.info.status == "FINISHED"
    assert 0 <= first.data.metrics["micro_f1"] <= 1
    assert first.data.params["train_encoder.loss"] == "sd"
    assert {artifact.path for artifact in client.list_artifacts(first.info.run_id)} == {
        "report.html",
        "metrics.json",
        "codes.csv",
    }


def test_a_killed_run_goes_on_without_unlocking_and_a_second_head_is_refused(finished: Path, tmp_path: Path) -> None:
    """Killed in train_classifier, which is run again for a changed setting; what came before it is kept."""
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    run = ["run", "small.yaml", "--set", f"data.raw={finished / 'notes.jsonl'}"]
    work = folder / "work" / "small"
    before = (work / "classifier" / "classifier.json").read_bytes()
    log = work / "logs" / "train_classifier.log"
    log.unlink()
    more_epochs = ["--set", "train_classifier.n_epochs=40", "--set", "train_classifier.patience=40"]
    command = [sys.executable, "-m", "pipeline", *run, *more_epochs]
    head = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not (log.exists() and "epoch 1:" in log.read_text()) and time.monotonic() < deadline:
        assert head.poll() is None
        time.sleep(0.2)
    second = icd(folder, "run", "small.yaml")
    assert second.returncode == 2
    assert "is running already" in second.stderr
    os.kill(head.pid, signal.SIGKILL)
    head.wait()
    assert (work / "classifier" / "classifier.json").read_bytes() == before, "the whole old one, nothing of the new"
    now = time.time()
    result = icd(folder, *run, "--set", "train_classifier.n_epochs=3")
    assert result.returncode == 0, result.stderr
    assert stages_run(folder, now) == ["train_classifier", "predict", "evaluate"]
    assert (work / "classifier" / "classifier.json").read_bytes() != before


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "nowhere.yaml"], "no such config file"),
        (["run", "small.yaml", "--set", "data.recip=table"], "did you mean 'recipe'"),
        (["run", "small.yaml", "--set", "data.recipe=tabel"], "did you mean 'table'"),
        (["run", "small.yaml", "--profile", "sge"], "no such profile"),
        (["predict", "--model", "nowhere", "--input", "a.csv", "--output", "b.csv"], "no such file or folder"),
    ],
)
def test_mistakes_on_the_command_line_exit_2_in_one_line(tmp_path: Path, arguments: list[str], expected: str) -> None:
    (tmp_path / "small.yaml").write_text(CONFIG, encoding="utf-8")
    result = icd(tmp_path, *arguments)
    assert result.returncode == 2
    assert expected in result.stderr
    assert "Traceback" not in result.stderr
