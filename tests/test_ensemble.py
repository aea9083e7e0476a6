"""The whole model: every kind through the stages, from the folder, with a baseline and thresholds of its own."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import sparse

from pipeline.coding.classifier import Classifier
from pipeline.coding.corpora import build_corpora
from pipeline.coding.ensemble import CodingModel
from pipeline.coding.model_folder import digest_of
from pipeline.coding.proposals import code_documents
from pipeline.errors import UserError
from pipeline.evaluation.thresholds import apply_thresholds, fit_thresholds
from pipeline.experiment.config import PipelineConfig
from pipeline.files import sha256_of
from pipeline.icd.labels import LabelSpace
from pipeline.stages import train_classifier

KINDS = ("neural", "tfidf", "lexical", "ensemble")
STAGES = "ingest split tokenize train_encoder"
UNTRAINED = {"loss": "none"}
Runner = Callable[..., PipelineConfig]


def settings(kind: str, **more: Any) -> dict[str, Any]:
    return {"model": kind, "n_epochs": 1, "global_batch_size": 8, "head_dropout": 0.0, "micro_batch_tokens": 64} | more


@pytest.fixture(scope="module")
def prepared(run_small: Runner, small_notes: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    run_small(folder, small_notes, STAGES, train_encoder=UNTRAINED)
    return folder


@pytest.fixture(scope="module")
def trained(
    run_small: Runner, small_notes: list[dict[str, Any]], prepared: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., PipelineConfig]:
    """A folder in which a kind of model was trained and coded the documents; each is trained once."""
    done: dict[str, PipelineConfig] = {}

    def train(kind: str, **more: Any) -> PipelineConfig:
        key = json.dumps([kind, more], sort_keys=True)
        if key not in done:
            folder = tmp_path_factory.mktemp(kind)
            shutil.copytree(prepared, folder, dirs_exist_ok=True)
            data = {"recipe": "table", "raw": prepared / "notes.jsonl", "options": {"split": "split"}}
            done[key] = run_small(
                folder,
                small_notes,
                "train_classifier predict",
                data=data,
                train_encoder=UNTRAINED,
                train_classifier=settings(kind, **more),
            )
        return done[key]

    return train


def coded(config: PipelineConfig, name: str = "predictions") -> tuple[np.ndarray, list[list[int]]]:
    table = pq.read_table(config.experiment_dir / f"{name}.parquet")
    n_labels = len(LabelSpace.load(config.experiment_dir / "label_space.json"))
    flat = table["probabilities"].combine_chunks().flatten().to_numpy()
    return flat.reshape(-1, n_labels), table["predicted"].to_pylist()


@pytest.mark.parametrize("kind", KINDS)
def test_texts_through_the_folder_get_the_probabilities_and_codes_of_the_stage(
    trained: Callable[..., PipelineConfig], small_notes: list[dict[str, Any]], kind: str
) -> None:
    config = trained(kind)
    probabilities, predicted = coded(config)
    model = CodingModel.load(config.experiment_dir / "classifier")
    noted = [note for note in small_notes if note["split"] != "train"]
    again = np.stack([one.probabilities for one in model.code_texts([note["text"] for note in noted], max_tokens=64)])
    is_test = np.array([note["split"] == "test" for note in noted])
    np.testing.assert_allclose(again[is_test], probabilities[is_test], atol=1e-6)
    if kind == "neural":
        np.testing.assert_allclose(again, probabilities, atol=1e-6)
    else:
        assert np.abs(again - probabilities)[~is_test].max() > 1e-3, "the kept model has learned from split val"
    lists = np.split(
        apply_thresholds(probabilities, model.thresholds).indices, np.cumsum([len(one) for one in predicted])
    )
    assert [one.tolist() for one in lists[:-1]] == predicted
    assert model.kind == kind
    assert (model.neural is not None) == (kind in ("neural", "ensemble"))


@pytest.mark.parametrize("kind", KINDS)
def test_the_baseline_is_tf_idf_alone_with_thresholds_of_its_own(
    trained: Callable[..., PipelineConfig], kind: str
) -> None:
    """What stands beside every kind is what the model 'tfidf' says itself; beside that one stands nothing."""
    config = trained(kind)
    probabilities, predicted = coded(config, "baseline_predictions")
    if kind == "tfidf":
        assert not len(probabilities)
    else:
        of_tfidf, predicted_by_tfidf = coded(trained("tfidf"))
        np.testing.assert_allclose(probabilities, of_tfidf, atol=1e-6)
        assert predicted == predicted_by_tfidf
    schemas = [
        pq.read_schema(config.experiment_dir / f"{name}.parquet") for name in ("predictions", "baseline_predictions")
    ]
    assert schemas[0] == schemas[1]


@pytest.mark.parametrize("kind", ["tfidf", "lexical", "ensemble"])
def test_split_val_is_coded_by_parts_that_had_not_learned_from_it(
    run_small: Runner,
    small_notes: list[dict[str, Any]],
    tmp_path: Path,
    kind: str,
) -> None:
    """A code that only documents of val have, each with a word of its own: nobody can know it before, anyone after."""
    notes = [
        note | ({"codes": ["Z99.2"], "text": f"wholly new {number}"} if note["split"] == "val" else {})
        for number, note in enumerate(small_notes)
    ]
    space = {"label_space": {"count_over": "all"}}
    config = run_small(tmp_path, notes, f"{STAGES} train_classifier predict", train_classifier=settings(kind), **space)
    labels = LabelSpace.load(config.experiment_dir / "label_space.json").labels
    column = labels.index("icd10cm:Z99.2")
    is_val = np.array(pq.read_table(config.experiment_dir / "predictions.parquet")["split"].to_pylist()) == "val"
    written = coded(config)[0][is_val][:, column]
    model = CodingModel.load(config.experiment_dir / "classifier")
    texts = [note["text"] for note in notes if note["split"] == "val"]
    kept = np.stack([one.probabilities for one in model.code_texts(texts, max_tokens=64)])[:, column]
    assert written.mean() < kept.mean()


def test_without_a_baseline_the_table_is_empty(trained: Callable[..., PipelineConfig]) -> None:
    config = trained("neural", baseline=False)
    assert not len(coded(config, "baseline_predictions")[0])
    assert not (config.experiment_dir / "classifier" / "lexical").exists()


@pytest.mark.parametrize("rule", ["global", "per_band", "per_label", "prevalence"])
def test_thresholds_follow_the_rule_on_what_was_said_of_val_before(
    trained: Callable[..., PipelineConfig], small_notes: list[dict[str, Any]], rule: Any
) -> None:
    folder = trained("neural", threshold=rule).experiment_dir
    space = LabelSpace.load(folder / "label_space.json")
    held_out = pq.read_table(folder / "held_out.parquet").to_pydict()
    labels = {note["document_id"]: {f"icd10cm:{code}" for code in note["codes"]} for note in small_notes}
    true = [[label in labels[one] for label in space.labels] for one in held_out["document_id"]]
    expected = fit_thresholds(
        rule, sparse.csr_array(np.array(true)), np.float32(held_out["probabilities"]),
        train_counts=space.train_counts, n_train_documents=sum(note["split"] == "train" for note in small_notes),
    )  # fmt: skip
    np.testing.assert_array_equal(CodingModel.load(folder / "classifier").thresholds, expected)


def test_labels_of_test_documents_change_no_byte_of_a_lexical_model(
    trained: Callable[..., PipelineConfig],
    run_small: Runner,
    small_notes: list[dict[str, Any]],
    tmp_path: Path,
) -> None:
    notes = [note | ({"codes": ["I10"]} if note["split"] == "test" else {}) for note in small_notes]
    run_small(tmp_path / "other", notes, STAGES, train_encoder=UNTRAINED)
    config = run_small(tmp_path / "other", notes, "train_classifier", train_classifier=settings("lexical"))
    assert sha256_of(config.experiment_dir / "classifier") == sha256_of(
        trained("lexical").experiment_dir / "classifier"
    )


def test_without_folds_the_channel_is_fitted_on_train_and_calibrated_on_val(
    trained: Callable[..., PipelineConfig],
) -> None:
    config = trained("lexical", lexical={"n_folds": 0})
    model = CodingModel.load(config.experiment_dir / "classifier")
    assert model.lexical is not None
    assert model.lexical.statistics.n_documents.tolist() == list(model.label_space.train_counts)
    assert np.isfinite(coded(config)[0]).all()


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("kind", KINDS)
def test_new_documents_are_coded_by_every_kind(
    trained: Callable[..., PipelineConfig], tmp_path: Path, kind: str
) -> None:
    notes = [
        {"document_id": f"n{place}", "text": text} for place, text in enumerate(["fever", "", "\u200b", "x " * 9000])
    ]
    (tmp_path / "notes.jsonl").write_text("".join(json.dumps(note) + "\n" for note in notes), encoding="utf-8")
    folder = trained(kind).experiment_dir / "classifier"
    n_documents, n_codes = code_documents(folder, str(tmp_path / "notes.jsonl"), tmp_path / "codes.csv", top_k=2)
    assert (n_documents, n_codes) == (4, 6)  # a note of blanks has no code


def change(folder: Path, **entries: Any) -> None:
    """Rewrite entries of classifier.json, as if training had."""
    path = folder / "classifier.json"
    kept = json.loads(path.read_text()) | entries
    del kept["sha256_of_this"]
    path.write_text(json.dumps(kept | {"sha256_of_this": digest_of(kept)}))


def without_part(folder: Path, name: str) -> None:
    digests = json.loads((folder / "classifier.json").read_text())["sha256"]
    change(folder, sha256={part: digest for part, digest in digests.items() if part != name})


def other_label_space(folder: Path) -> None:
    space = LabelSpace.load(folder / "label_space.json")
    LabelSpace(space.labels[:2], space.titles[:2], space.train_counts[:2]).save(folder / "label_space.json")
    digests = json.loads((folder / "classifier.json").read_text())["sha256"]
    change(folder, sha256=digests | {"label_space.json": sha256_of(folder / "label_space.json")})


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (
            lambda folder: (folder / "lexical" / "synonyms.tsv").write_text("a\tb\n"),
            "lexical is not what training wrote",
        ),
        (lambda folder: (folder / "combination.safetensors").unlink(), r"combination\.safetensors is missing"),
        (lambda folder: change(folder, model="forest"), "is damaged: it lacks parts"),
        (lambda folder: without_part(folder, "lexical"), "is damaged: it lacks parts"),
        (lambda folder: without_part(folder, "combination.safetensors"), "is damaged: it lacks parts"),
        (lambda folder: change(folder, format_version=1), "format version 1, this program reads 6"),
        (other_label_space, "do not fit the label space"),
    ],
)
def test_a_folder_that_was_changed_is_refused(
    trained: Callable[..., PipelineConfig], tmp_path: Path, damage: Callable[[Path], object], expected: str
) -> None:
    folder = tmp_path / "classifier"
    shutil.copytree(trained("lexical").experiment_dir / "classifier", folder)
    damage(folder)
    with pytest.raises(UserError, match=expected):
        CodingModel.load(folder)


def test_a_training_is_not_lost_to_a_failure_behind_it(
    run_small: Runner,
    small_notes: list[dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: object) -> None:
        raise OSError("the disk is gone")

    run_small(tmp_path, small_notes, STAGES)
    train = functools.partial(
        run_small, tmp_path, small_notes, "train_classifier", train_classifier=settings("ensemble")
    )
    with monkeypatch.context() as patched, pytest.raises(AssertionError, match="train_classifier"):
        patched.setattr(train_classifier, "_fit_model", fail)
        train()
    with caplog.at_level("INFO"):
        folder = train().experiment_dir
    assert "resumed from checkpoint epoch-1" in caplog.text
    assert not (folder / "checkpoints" / "train_classifier").exists()


def test_an_encoder_is_asked_of_a_model_that_has_none(trained: Callable[..., PipelineConfig]) -> None:
    with pytest.raises(UserError, match="a model of kind 'tfidf' has no encoder"):
        Classifier.load(trained("tfidf").experiment_dir / "classifier")


def test_a_split_val_without_a_label_is_a_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="split val has 1 documents and no label"):
        build_corpora(tmp_path, ["a", "b"], ["train", "val"], [[0], []], 2)
    with pytest.raises(UserError, match="split val has 0 documents and no label"):
        build_corpora(tmp_path, ["a"], ["train"], [[0]], 2)
