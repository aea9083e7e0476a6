"""Fitting of the lexical channel: what is held out, by patient; streamed as at once; and the rows of split val."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import sparse

from pipeline.coding import ensemble_fitting
from pipeline.coding.corpora import Corpus, build_corpora
from pipeline.coding.ensemble import Coded
from pipeline.coding.ensemble_fitting import Fitter, HeldOut, fit_model
from pipeline.coding.held_out import HeldOutVal, save_held_out
from pipeline.errors import UserError
from pipeline.evaluation.label_counts import fitting_bands
from pipeline.evaluation.thresholds import fit_thresholds
from pipeline.experiment.training_settings import Lexical
from pipeline.icd.labels import LabelSpace
from pipeline.lexical import channel
from pipeline.lexical.combination import BandedLogistic, Cells, Platt, draw_cells, probabilities_of
from pipeline.lexical.mentions import FEATURES
from pipeline.lexical.tfidf import LinearScores
from pipeline.notes.documents import DOCUMENT_SCHEMA
from pipeline.notes.text import Preparation

UNSEEN = -20.0
"""Logit of TF-IDF for a label of which the documents that it learned from have none."""
FINDINGS = ("pneumonia", "fever", "anemia", "hematuria", "vomiting")
SPACE = LabelSpace(
    ("icd10cm:J18.9", "icd10cm:R50.9", "icd10cm:D64.9", "icd10cm:R31.9", "icd10cm:R11.10"),
    tuple(name.capitalize() for name in FINDINGS),
    (0,) * 5,
)


def build(folder: Path, rows: Sequence[tuple[str, str, Sequence[int], str]], n_labels: int) -> tuple[Corpus, Corpus]:
    """Corpora of train and val from rows of (patient, text, label ids, split)."""
    path = folder / "documents.parquet"
    ids = [f"d{number}" for number in range(len(rows))]
    table = [
        {"document_id": one, "patient_id": patient, "text": text, "labels": []}
        for one, (patient, text, *_) in zip(ids, rows, strict=True)
    ]
    pq.write_table(pa.Table.from_pylist(table, DOCUMENT_SCHEMA), path)
    return build_corpora(path, ids, [row[3] for row in rows], [row[2] for row in rows], n_labels)


def fitter(kind: Any, *, n_folds: int) -> Fitter:
    settings = Lexical(char_ngrams=False, min_documents=1, n_folds=n_folds)
    return Fitter(kind=kind, settings=settings, n_threads=1, seed=0)


def test_what_is_held_out_of_a_document_knows_nothing_of_its_patients_fold(tmp_path: Path) -> None:
    """Ten patients with two documents each and a code of their own, which nobody else has.

    So of a patient's own code the other folds have no document: its logit is that of an unseen code for both
    documents, and for all of their fold, and for no document of another fold, whose model has seen the two.
    """
    rows = [
        (f"p{patient}", f"word{patient} common{visit}", [patient, 10 + visit], "val" if patient > 7 else "train")
        for visit in range(2)
        for patient in range(10)
    ]
    train, val = build(tmp_path, rows, 12)
    space = LabelSpace(tuple(f"none:{one}" for one in range(12)), (None,) * 12, (1,) * 12)
    fitted, held_out = fitter("tfidf", n_folds=3).fit_channel(train, val, space)
    is_unseen = held_out.baseline[:, :10] == UNSEEN
    patient_of = np.arange(20) % 10
    for label in range(10):
        assert is_unseen[patient_of == label, label].all()
        assert not is_unseen[:, label].all()
    is_same_fold = is_unseen[:, patient_of]  # (n_documents, n_documents)
    assert (is_same_fold == is_same_fold.T).all()
    assert {len(set(patient_of[row])) for row in is_same_fold} == {3, 4}
    assert (held_out.baseline[:, 10:] > UNSEEN).all()
    np.testing.assert_array_equal(held_out.lexical, held_out.baseline)
    assert fitted.statistics.n_documents.tolist() == [2] * 10 + [10, 10]
    assert [(train + val).document_ids[row] for row in held_out.val_rows] == list(val.document_ids)
    assert (held_out.true[held_out.val_rows] != val.true).nnz == 0


def notes_of_findings() -> list[tuple[str, str, list[int], str]]:
    """Notes that affirm two findings and deny a third; three of four affirmed ones are coded; vomiting in val alone."""
    draw = np.random.default_rng(5)
    rows = []
    for number in range(34):
        split = "val" if number % 3 == 0 else "train"
        first, second, denied = draw.permutation(5 if split == "val" else 4)[:3].tolist()
        text = f"The patient has {FINDINGS[first]} and {FINDINGS[second]}. No {FINDINGS[denied]}."
        coded = [label for label in (first, second) if draw.random() < 0.75]
        rows.append((f"p{number}", text, sorted(coded), split))
    return rows


def test_a_streamed_channel_is_that_of_all_documents_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Statistics are those of a count by hand over split train; blocks of three change nothing."""
    rows = notes_of_findings()
    train, val = build(tmp_path, rows, 5)
    found = {}
    for size in (3, 1000):
        monkeypatch.setattr(ensemble_fitting, "BLOCK", size)
        monkeypatch.setattr(channel, "BLOCK", size)
        found[size] = fitter("lexical", n_folds=0).fit_channel(train, val, SPACE)
    of_train = [
        ([name in text.partition(".")[0] for name in FINDINGS], [label in labels for label in range(5)])
        for _, text, labels, split in rows
        if split == "train"
    ]
    affirmed, true = (np.array(one) for one in zip(*of_train, strict=True))
    for fitted, held_out in found.values():
        assert fitted.statistics.n_documents.tolist() == true.sum(axis=0).tolist()
        assert fitted.statistics.n_complete.tolist() == affirmed.sum(axis=0).tolist()
        assert fitted.statistics.n_right.tolist() == (affirmed & true).sum(axis=0).tolist()
        assert held_out.val_rows.tolist() == list(range(len(val)))
        assert (held_out.true != val.true).nnz == 0
    (streamed, of_streamed), (whole, of_whole) = found.values()
    assert streamed.combiner is not None
    assert whole.combiner is not None
    np.testing.assert_allclose(streamed.combiner.weights, whole.combiner.weights, atol=1e-6)
    np.testing.assert_allclose(of_streamed.baseline, of_whole.baseline, atol=1e-5)
    np.testing.assert_allclose(of_streamed.lexical, of_whole.lexical, atol=1e-5)


def test_a_fold_is_seen_by_scores_and_title_counts_of_the_others_alone(tmp_path: Path) -> None:
    """Fold by fold, slowly; a code that one document alone has is no part of the calibration in that one's fold."""
    rows = [
        (patient, text, [one for one in labels if one != 4] + [4] * (patient == "p3"), split)
        for patient, text, labels, split in notes_of_findings()
    ]
    train, val = build(tmp_path, rows, 5)
    both, how = train + val, fitter("lexical", n_folds=2)
    fitted, held_out = how.fit_channel(train, val, SPACE)
    assert fitted.titles is not None
    assert fitted.combiner is not None
    fold_of = ensemble_fitting._folds(both.patients(), 2, 0)
    texts, true = list(both.texts()), both.true.toarray()
    ngrams = fitted.model.vectorizer.transform(texts)
    mentions = np.stack(list(fitted.titles.features(texts)))
    is_complete = mentions[:, :, FEATURES.index("complete")] > 0
    scores, is_seen, cells = np.zeros(true.shape, np.float32), np.zeros(true.shape, np.bool_), []
    features = np.zeros((*true.shape, channel.N_CELL_FEATURES), np.float32)
    for inside in (fold_of == 0, fold_of == 1):
        linear = LinearScores.fit(ngrams[~inside], both.true[~inside], how.settings, n_threads=1, seed=0)
        counts = channel.TitleStatistics.of(true[~inside], is_complete[~inside])
        scores[inside], is_seen[inside] = linear.scores(ngrams[inside]), true[~inside].any(axis=0)
        features[inside] = channel.cell_features(scores[inside], mentions[inside], counts)
        bands = fitting_bands(true[~inside].sum(axis=0))
        cells.append(draw_cells(features[inside], both.true[inside], bands, share=1.0, seed=0))
    assert not is_seen.all()
    platt = Platt.fit(scores, both.true, is_seen=is_seen)
    assert (fitted.platt.slope, fitted.platt.intercept) == pytest.approx((platt.slope, platt.intercept), rel=1e-4)
    np.testing.assert_allclose(held_out.baseline, np.where(is_seen, platt.logits(scores), UNSEEN), atol=1e-3)
    prior = [1.0] + [0.0] * channel.N_CELL_FEATURES
    combiner = BandedLogistic.fit(Cells.joined(cells), prior=prior, strength=1.0)
    np.testing.assert_allclose(fitted.combiner.weights, combiner.weights, atol=1e-3)


def test_a_code_that_no_training_document_has_takes_no_part_in_calibration(tmp_path: Path) -> None:
    """Without folds: vomiting stands in val alone, so the sigmoid is that of the other four codes."""
    rows = notes_of_findings()
    train, val = build(tmp_path, rows, 5)
    assert val.true[:, [4]].nnz > 2
    assert not train.true[:, [4]].nnz
    fitted, held_out = fitter("lexical", n_folds=0).fit_channel(train, val, SPACE)
    scores = fitted.model.scores(list(val.texts()))
    expected = Platt.fit(scores[:, :4], sparse.csr_array(val.true[:, :4]))
    assert (fitted.platt.slope, fitted.platt.intercept) == pytest.approx((expected.slope, expected.intercept))
    np.testing.assert_allclose(held_out.baseline[:, :4], expected.logits(scores[:, :4]), atol=1e-5)
    assert (held_out.baseline[:, 4] == UNSEEN).all()


def test_what_fits_into_memory_is_fitted_on_folds_and_one_cell_more_is_streamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """34 documents and 5 codes are 170 cells."""
    train, val = build(tmp_path, notes_of_findings(), 5)
    for most, n_held_out in ((170, 34), (169, len(val))):
        monkeypatch.setattr(ensemble_fitting, "_MAX_FOLD_CELLS", most)
        assert fitter("tfidf", n_folds=2).fit_channel(train, val, SPACE)[1].true.shape == (n_held_out, 5)


def drawn_held_out(n_labels: int) -> tuple[HeldOut, sparse.csr_array]:
    """Of 90 held-out documents 60 are split val, in an order of their own; the baseline says something else."""
    generator = np.random.default_rng(0)
    true = generator.random((90, n_labels)) < 0.4
    said, otherwise = ((true * 3 - 1.5 + generator.normal(size=true.shape)).astype(np.float32) for _ in range(2))
    val_rows = generator.permutation(90)[:60]
    of_all = sparse.csr_array(true)
    return HeldOut(of_all, otherwise, said, val_rows), sparse.csr_array(true[val_rows])


@pytest.mark.parametrize("kind", ["tfidf", "lexical"])
def test_a_channel_alone_says_of_val_what_it_said_held_out(kind: Any) -> None:
    space = LabelSpace(("none:a", "none:b"), (None,) * 2, (5, 50))
    held_out, val_true = drawn_held_out(2)
    how: dict[str, Any] = {"threshold": "global", "n_train_documents": 99}
    model, coded = fit_model(kind, space, Preparation(), val_true, neural=None, lexical=(None, held_out), **how)  # type: ignore[arg-type]
    said = held_out.lexical if kind == "lexical" else held_out.baseline
    np.testing.assert_allclose(coded.probabilities, probabilities_of(said[held_out.val_rows]), atol=1e-6)
    expected = fit_thresholds(
        "global", held_out.true, probabilities_of(said), train_counts=(5, 50), n_train_documents=99
    )
    np.testing.assert_allclose(model.thresholds, expected)
    if kind == "lexical":
        assert coded.baseline is not None
        np.testing.assert_allclose(coded.baseline, probabilities_of(held_out.baseline[held_out.val_rows]), atol=1e-6)


def test_codes_that_an_encoder_hardly_saw_are_the_channels_alone_and_three_documents_are_enough() -> None:
    """Probabilities as well as thresholds: those fitted on the one mean nothing for the other.

    The channel's thresholds come from all its held-out documents, those of the mixture from split val.
    """
    counts = (0, 2, 3, 50)
    space = LabelSpace(("none:a", "none:b", "none:c", "none:d"), (None,) * 4, counts)
    held_out, val_true = drawn_held_out(4)
    neural = probabilities_of(np.random.default_rng(1).normal(size=(60, 4)))
    parts: dict[str, Any] = {"neural": (None, neural), "lexical": (None, held_out)}
    how: dict[str, Any] = {"threshold": "global", "n_train_documents": 99}
    model, of_val = fit_model("ensemble", space, Preparation(), val_true, **parts, **how)
    said = probabilities_of(held_out.lexical)
    np.testing.assert_allclose(of_val.probabilities[:, :2], said[held_out.val_rows][:, :2], atol=1e-6)
    for label in (2, 3):
        assert not np.allclose(of_val.probabilities[:, label], said[held_out.val_rows][:, label], atol=1e-2)
    of_channel = fit_thresholds("global", held_out.true, said, train_counts=counts, n_train_documents=99)
    of_mixture = fit_thresholds("global", val_true, of_val.probabilities, train_counts=counts, n_train_documents=99)
    assert abs(of_channel[0] - of_mixture[0]) > 0.001
    np.testing.assert_allclose(model.thresholds, [*of_channel[:2], *of_mixture[2:]])


def test_documents_of_val_get_back_what_was_said_before_whatever_their_order(tmp_path: Path) -> None:
    before = Coded(np.float32([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]]), np.float32([[0.9, 0.8], [0.7, 0.6], [0.5, 0.4]]))
    save_held_out(tmp_path / "held_out.parquet", ["v1", "v2", "v3"], before)
    held_out = HeldOutVal(tmp_path / "held_out.parquet", 2)
    now = Coded(np.zeros((4, 2), np.float32), np.ones((4, 2), np.float32))
    found = held_out.put_into(["v3", "t1", "v1", "t2"], now)
    np.testing.assert_array_equal(found.probabilities, np.float32([[0.5, 0.6], [0, 0], [0.1, 0.2], [0, 0]]))
    assert found.baseline is not None
    np.testing.assert_array_equal(found.baseline, np.float32([[0.5, 0.4], [1, 1], [0.9, 0.8], [1, 1]]))
    assert not now.probabilities.any(), "what was given is not changed"
    assert held_out.put_into(["v2"], Coded(now.probabilities[:1], None)).baseline is None
    with pytest.raises(UserError, match="it is of another label space"):
        HeldOutVal(tmp_path / "held_out.parquet", 3)
