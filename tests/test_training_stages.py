"""Both trainings as stages: what they depend on, what passes through, the same on two processes."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from small_training import N_LABELS, build_loader, build_objective, settings_of

from pipeline.training import meter
from pipeline.training.loop import fit
from pipeline.training.validation import Validator

TWO_PROCESSES = Path(__file__).parents[1] / "configs" / "accelerate" / "two_processes.yaml"


def trained_files(experiment_dir: Path) -> dict[str, bytes]:
    """Everything that training wrote and the label space; of the histories all but times, which are never equal."""
    timed = ("documents_per_second", "loading_share")
    files = {
        str(path.relative_to(experiment_dir)): path.read_bytes()
        for folder in ("encoder", "classifier")
        for path in (experiment_dir / folder).rglob("*")
        if path.is_file() and path.name != "training_history.json"
    }
    for folder in ("encoder", "classifier"):
        rows = json.loads((experiment_dir / folder / "training_history.json").read_text())
        scores = [{name: value for name, value in row.items() if name not in timed} for row in rows]
        files[f"{folder} history"] = json.dumps(scores).encode()
    return files | {"label_space": (experiment_dir / "label_space.json").read_bytes()}


TRAINED = "ingest split tokenize train_encoder train_classifier"


@pytest.fixture
def _history_by_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the rows of a history depend on the time."""
    monkeypatch.setattr(meter, "LOG_EVERY_S", 1e9)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, run_small: Any, small_notes: list[dict[str, Any]]) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(meter, "LOG_EVERY_S", 1e9)  # else rows of the history depend on the time
        yield trained_files(run_small(tmp_path_factory.mktemp("trained"), small_notes, TRAINED).experiment_dir)


@pytest.mark.slow
@pytest.mark.usefixtures("_history_by_epoch")
@pytest.mark.parametrize(
    ("split", "change", "is_seen"),
    [
        ("test", {"codes": ["E11.9", "N17.9", "I10"]}, False),
        ("test", {"text": "no fever. a mother had cough" * 40}, False),
        ("val", {"codes": ["I10", "J18.9"]}, True),
        ("train", {"codes": ["N17.9"]}, True),
    ],
)
def test_what_is_trained_depends_on_train_and_val_and_on_no_test_document(
    tmp_path: Path, *, run_small: Any, small_notes: Any, trained: Any, split: str, change: Any, is_seen: bool
) -> None:  # fmt: skip
    """Byte for byte; that a changed document of val and of train is seen shows that the comparison can fail."""
    notes = [dict(note) for note in small_notes]
    next(note for note in notes if note["split"] == split).update(change)
    found = trained_files(run_small(tmp_path, notes, TRAINED).experiment_dir)
    different = {name for name in trained.keys() | found.keys() if trained.get(name) != found.get(name)}
    assert bool(different) == is_seen, different


@pytest.mark.slow
@pytest.mark.parametrize("head", ["linear", "label_attention"])
def test_a_frozen_encoder_and_trainings_of_no_epoch_pass_the_weights_on(
    tmp_path: Path, run_small: Any, small_notes: list[dict[str, Any]], tiny_encoder_dir: Path, head: str
) -> None:
    frozen = {"n_epochs": 1, "global_batch_size": 8, "head": head, "freeze_encoder": True}
    whole = f"{TRAINED} predict evaluate"
    config = run_small(tmp_path / "a", small_notes, TRAINED, train_encoder={"loss": "none"}, train_classifier=frozen)
    untrained = {"train_encoder": {"n_epochs": 0}, "train_classifier": {"n_epochs": 0, "head": head}}
    other = run_small(tmp_path / "b", small_notes, whole, **untrained)
    start = load_file(tiny_encoder_dir / "model.safetensors")
    for folder in (config.experiment_dir, other.experiment_dir):
        for name in ("encoder", "classifier/encoder"):
            weights = load_file(folder / name / "model.safetensors")
            assert weights
            assert all(torch.equal(start[key], value) for key, value in weights.items()), name
    assert (other.experiment_dir / "report.html").exists()


def test_an_encoder_without_a_weight_to_train_is_refused(
    tmp_path: Path, run_small: Any, small_notes: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    frozen = {"chunk_tokens": 32, "n_frozen_layers": 2, "freeze_embeddings": True}
    with pytest.raises(AssertionError, match="train_encoder"):
        run_small(tmp_path, small_notes, "ingest split tokenize train_encoder", encoding=frozen)
    assert "no weight of the encoder is left to train; lower encoding.n_frozen_layers (2)" in caplog.text


def _train_in_a_process(folder: Path, out_dir: Path) -> None:
    """What each of two processes does: both trainings, then validation."""
    accelerator = Accelerator()
    results: dict[str, Any] = {}
    for kind in ("contrastive", "classification"):
        model, loader = build_objective(folder, kind), build_loader()
        fit(
            model, loader, settings_of(kind), accelerator,
            checkpoint_dir=out_dir / f"checkpoints-{kind}", signature="s",
        )  # fmt: skip
        results[kind] = {name: value.clone() for name, value in model.state_dict().items()}
    validator = Validator(model, loader.tokens, range(23), n_labels=N_LABELS, loader=loader, accelerator=accelerator)
    results["probabilities"] = torch.from_numpy(validator.probabilities())
    results["n_processes"] = accelerator.num_processes
    torch.save(results, out_dir / f"{accelerator.num_processes}-{accelerator.process_index}.pt")


@pytest.mark.slow
def test_two_processes_train_and_validate_as_one_does(tiny_encoder_dir: Path, tmp_path: Path) -> None:
    """The real loop with accelerate, DDP and gloo; without dropout the weights after six steps are the same."""
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(TWO_PROCESSES)]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    command = [*launch, __file__, str(tiny_encoder_dir), str(tmp_path)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    AcceleratorState._reset_state(reset_partial_state=True)
    _train_in_a_process(tiny_encoder_dir, tmp_path)
    one, *two = (torch.load(tmp_path / f"{name}.pt") for name in ("1-0", "2-0", "2-1"))
    assert [result["n_processes"] for result in two] == [2, 2]
    for result, kind in itertools.product(two, ("contrastive", "classification")):
        for name, value in one[kind].items():
            torch.testing.assert_close(result[kind][name], value, atol=2e-5, rtol=1e-4)
    for result in two:
        torch.testing.assert_close(result["probabilities"], one["probabilities"], atol=1e-5, rtol=1e-4)


if __name__ == "__main__":  # as the two processes of the test above
    _train_in_a_process(Path(sys.argv[1]), Path(sys.argv[2]))
