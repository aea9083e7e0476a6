"""Documents of a split with what they were coded with: by people, and by a system; at any level of the code tree."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy import sparse

from pipeline.errors import UserError
from pipeline.evaluation.cells import document_chunks
from pipeline.evaluation.label_counts import Counts, label_lists, label_matrix
from pipeline.experiment.artifacts import need
from pipeline.experiment.manifests import check_predictions_are_of
from pipeline.icd.codes import LEVELS, Level, at_level, parse_label
from pipeline.icd.labels import LabelSpace

_DIAGNOSES = ("icd9cm", "icd10cm")


@dataclass(frozen=True)
class CodedSplit:
    """Gold and predicted labels of one split.

    Attributes:
        label_space: what the columns below stand for.
        document_ids: in the order of the rows below.
        patients: whose each document is.
        gold: labels of each document as ingested, in the order of their source.
        principals: label of each document's principal diagnosis, None where the source does not tell it.
        true: (n_documents, n_labels) bool CSR, labels of the label space.
        predicted: the same shape.
        probabilities: the same shape, float32.
        n_outside: gold labels that lie outside the label space, over all documents.
    """

    label_space: LabelSpace
    document_ids: list[str]
    patients: list[str]
    gold: list[list[str]]
    principals: list[str | None]
    true: sparse.csr_array
    predicted: sparse.csr_array
    probabilities: NDArray[np.float32]
    n_outside: int

    def in_order_of(self, document_ids: Sequence[str]) -> CodedSplit | None:
        """The same documents in another order; None where they are not the same."""
        places = {document_id: row for row, document_id in enumerate(self.document_ids)}
        if places.keys() != set(document_ids):
            return None
        return self.take(np.array([places[document_id] for document_id in document_ids]))

    def take(self, rows: NDArray[np.int64]) -> CodedSplit:
        """Some documents, in the order of ``rows``."""
        gold = [self.gold[row] for row in rows]
        return CodedSplit(
            self.label_space,
            [self.document_ids[row] for row in rows],
            [self.patients[row] for row in rows],
            gold,
            [self.principals[row] for row in rows],
            self.true[rows],
            self.predicted[rows],
            self.probabilities[rows],
            sum(self.label_space.encode(labels)[1] for labels in gold),
        )


def load_coded_split(
    experiment_dir: Path, split: str, label_space: LabelSpace, *, name: str = "predictions.parquet"
) -> CodedSplit | None:
    """Join predictions and gold labels of a split by document; None where no document of it was coded.

    Args:
        experiment_dir: of the experiment.
        split: which one.
        label_space: of the experiment.
        name: of the file with predictions.

    Raises:
        UserError: if the predictions are missing or for another label space, or a document has no gold labels.
    """
    check_predictions_are_of(experiment_dir)
    path = need(experiment_dir, name) if name == "predictions.parquet" else experiment_dir / name
    table = pq.read_table(path, filters=[("split", "==", split)])
    if not len(table):
        return None
    n_labels = len(label_space)
    if table.schema.field("probabilities").type.list_size != n_labels:
        raise UserError(f"{experiment_dir}: predictions and label space differ; run the stage 'predict' again.")
    document_ids = table["document_id"].to_pylist()
    patients, gold, principals = _truth(experiment_dir, document_ids)
    flat = table["probabilities"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    true, n_outside = _encode(gold, label_space)
    return CodedSplit(
        label_space,
        document_ids,
        patients,
        gold,
        principals,
        true,
        label_matrix(table["predicted"].to_pylist(), n_labels),
        flat.reshape(-1, n_labels),
        n_outside,
    )


def load_baseline_split(experiment_dir: Path, coded: CodedSplit, split: str) -> CodedSplit | None:
    """What the lexical baseline says of the same documents, in the same order; None where there is no baseline.

    Raises:
        UserError: if it coded other documents than the model.
    """
    name = "baseline_predictions.parquet"
    if not (experiment_dir / name).exists():
        return None
    baseline = load_coded_split(experiment_dir, split, coded.label_space, name=name)
    if baseline is None:
        return None
    ordered = baseline.in_order_of(coded.document_ids)
    if ordered is None:
        raise UserError(
            f"{experiment_dir}: model and baseline coded different documents of split {split}; "
            "run the stage 'predict' again."
        )
    return ordered


def _truth(experiment_dir: Path, document_ids: Sequence[str]) -> tuple[list[str], list[list[str]], list[str | None]]:
    """Patients of documents, their labels as ingested, in the order of their source, and principal diagnoses.

    Raises:
        UserError: if one is missing.
    """
    documents = pq.read_table(
        need(experiment_dir, "documents.parquet"), columns=["document_id", "patient_id", "labels", "principal"]
    )
    documents = documents.filter(pc.is_in(documents["document_id"], pa.array(document_ids, pa.string())))
    places = {document_id: row for row, document_id in enumerate(documents["document_id"].to_pylist())}
    missing = [document_id for document_id in document_ids if document_id not in places]
    if missing:
        raise UserError(
            f"{experiment_dir}: {len(missing)} coded documents are not in documents.parquet (first: {missing[0]}); "
            "run the stages again from 'tokenize' on."
        )
    documents = documents.take([places[document_id] for document_id in document_ids])
    return tuple(documents[name].to_pylist() for name in ("patient_id", "labels", "principal"))


def split_label_sets(experiment_dir: Path, split: str) -> list[list[str]]:
    """Labels of each document of a split as ingested."""
    splits = pq.read_table(need(experiment_dir, "splits.parquet"), filters=[("split", "==", split)])
    documents = pq.read_table(need(experiment_dir, "documents.parquet"), columns=["document_id", "labels"])
    sets: list[list[str]] = documents.filter(pc.is_in(documents["document_id"], splits["document_id"]))[
        "labels"
    ].to_pylist()
    return sets


def _encode(gold: Iterable[Sequence[str]], label_space: LabelSpace) -> tuple[sparse.csr_array, int]:
    encoded = [label_space.encode(labels) for labels in gold]
    return label_matrix([ids for ids, _ in encoded], len(label_space)), sum(n for _, n in encoded)


def raise_split(coded: CodedSplit, level: Level, train_label_sets: Iterable[Sequence[str]]) -> CodedSplit | None:
    """The same documents with every label raised to a level of the code tree.

    A raised label is true where any gold label lies below it, also one outside the label space: the category was
    met even if the very code could not be. It is predicted where any predicted label lies below it, and its
    probability is the highest one below it.

    Args:
        coded: at the level of its label space.
        level: to raise to.
        train_label_sets: of split train, for the raised labels' own counts.

    Returns:
        The raised split; None where the level is not above that of the label space, or its labels have none.
    """
    space = coded.label_space
    if LEVELS.index(level) <= LEVELS.index(space.level):
        return None
    above = [at_level(label, level) for label in space.labels]
    names = sorted(set(above))
    if names == list(space.labels):
        return None
    counts = _count_raised(train_label_sets, level)
    raised = LabelSpace(tuple(names), (None,) * len(names), tuple(counts[name] for name in names), level)
    groups = np.searchsorted(np.array(names), np.array(above))
    true, n_outside = _encode(coded.gold, raised)
    predicted = label_matrix([groups[labels].tolist() for labels in label_lists(coded.predicted)], len(names))
    probabilities = raise_probabilities(coded.probabilities, groups, len(names))
    return dataclasses.replace(
        coded, label_space=raised, true=true, predicted=predicted, probabilities=probabilities, n_outside=n_outside
    )


def _count_raised(label_sets: Iterable[Sequence[str]], level: Level) -> Counter[str]:
    above: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for labels in label_sets:
        for label in labels:
            if label not in above:
                above[label] = at_level(label, level)
        counts.update({above[label] for label in labels})
    return counts


def raise_probabilities(probabilities: NDArray[np.float32], groups: Counts, n_groups: int) -> NDArray[np.float32]:
    """The highest probability of each group of labels.

    Args:
        probabilities: float32, shape (n_documents, n_labels).
        groups: group of each label, shape (n_labels,), values 0 to n_groups - 1, each at least once.
        n_groups: number of groups.

    Returns:
        float32, shape (n_documents, n_groups).

    Example:
        >>> raise_probabilities(np.float32([[0.5, 0.25, 0.75]]), np.array([1, 0, 0]), 2).tolist()
        [[0.75, 0.5]]
    """
    order = np.argsort(groups, kind="stable")
    starts = np.searchsorted(groups[order], np.arange(n_groups))
    raised = np.empty((probabilities.shape[0], n_groups), dtype=np.float32)
    for chunk in document_chunks(*probabilities.shape):
        raised[chunk] = np.maximum.reduceat(probabilities[chunk][:, order], starts, axis=1)
    return raised


def diagnosis_ids(label_space: LabelSpace) -> Counts:
    """Indices of the labels that are diagnoses, not procedures."""
    return np.array([i for i, one in enumerate(label_space.labels) if parse_label(one)[0] in _DIAGNOSES], np.int64)


def principal_ids(coded: CodedSplit) -> Counts:
    """Label index of each document's principal diagnosis; -1 outside the label space, -2 where none is known."""
    places = {label: index for index, label in enumerate(coded.label_space.labels)}
    ids = np.full(len(coded.principals), -2, dtype=np.int64)
    for row, principal in enumerate(coded.principals):
        if principal is not None:
            ids[row] = places.get(at_level(principal, coded.label_space.level), -1)
    return ids
