"""What a grid found: one row a variant, from the predictions of its members.

For every variant, fold and seed that chooses, the member with the best validation score is kept; predictions are
pooled over folds; scores are means over seeds. Differences to the reference variant come with paired bootstrap
intervals over patients, each with all documents.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from pipeline.errors import UserError
from pipeline.evaluation.coded import CodedSplit, load_baseline_split, load_coded_split, split_label_sets
from pipeline.evaluation.intervals import bootstrap_distributions, difference_interval
from pipeline.evaluation.label_counts import label_lists, label_matrix, ratio, set_scores
from pipeline.evaluation.metrics import evaluate_predictions
from pipeline.evaluation.ranking import rank_scores
from pipeline.experiment.artifacts import need
from pipeline.experiment.grid import Member
from pipeline.icd.labels import LabelSpace

logger = logging.getLogger(__name__)

BASELINE = "lexical baseline"
HEADLINE = ("micro_f1", "macro_f1", "macro_f1_all_codes", "map", "precision_at_5")
COMPARED = ("micro_f1", "macro_f1", "map")


@dataclass(frozen=True)
class Pooled:
    """Gold and predicted labels of one variant and seed, over all folds, in the label space of the whole grid.

    Attributes:
        document_ids: sorted, one a row of the matrices.
        patients: whose each document is.
        true: (n_documents, n_labels) bool CSR.
        predicted: the same shape.
        probabilities: the same shape, float32; 0 for a label that the document's fold did not know.
    """

    document_ids: list[str]
    patients: list[str]
    true: sparse.csr_array
    predicted: sparse.csr_array
    probabilities: NDArray[np.float32]


@dataclass
class VariantResult:
    """Scores of one variant.

    Attributes:
        variant: its name.
        choices: how often each setting was chosen on validation.
        scores: one dict a seed.
        distributions: bootstrap scores, (n_resamples,) a name, mean over seeds.
        document_ids: what was scored.
        patients: whose each document is.
        true: its labels, as in :class:`Pooled`.
    """

    variant: str
    choices: dict[str, int] = field(default_factory=dict)
    scores: list[dict[str, float]] = field(default_factory=list)
    distributions: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    document_ids: list[str] = field(default_factory=list)
    patients: list[str] = field(default_factory=list)
    true: sparse.csr_array | None = None

    def add_seed(
        self, pooled: Pooled, choices: Iterable[str], *, train_counts: ArrayLike | None, n_resamples: int, seed: int
    ) -> None:
        """Score the predictions of one seed.

        Args:
            pooled: of all folds.
            choices: what was chosen on validation, one a fold; "" where nothing was.
            train_counts: of each label, for the frequency bands.
            n_resamples: bootstrap samples of the patients.
            seed: of the bootstrap; the same samples for every variant and seed.

        Raises:
            UserError: if another seed was tested on other documents, or on the same with other labels.
        """
        if self.true is not None and not self.has_truth_of(pooled):
            raise UserError(f"variant {self.variant}: its seeds were tested on different documents; set split.seed.")
        self.document_ids, self.patients, self.true = pooled.document_ids, pooled.patients, pooled.true
        data = pooled.true, pooled.predicted, pooled.probabilities
        n_before = len(self.scores)
        self.scores.append(evaluate_predictions(*data, train_counts=train_counts, ks=(5,)))
        for choice in filter(None, choices):
            self.choices[choice] = self.choices.get(choice, 0) + 1
        drawn = bootstrap_distributions(*data, n_resamples=n_resamples, seed=seed, patients=pooled.patients)
        for name, values in drawn.items():
            before = self.distributions.get(name, np.zeros_like(values))
            self.distributions[name] = (before * n_before + values) / (n_before + 1)

    def has_truth_of(self, other: Pooled | VariantResult) -> bool:
        """Whether both were tested on the same documents of the same patients with the same labels: can be paired."""
        if self.true is None or other.true is None or self.document_ids != other.document_ids:
            return False
        if self.patients != other.patients:
            return False
        return label_lists(self.true) == label_lists(other.true)


def collect(
    members: Sequence[Member], *, choose_by: str, n_resamples: int, seed: int, chosen_by: int | None = None
) -> list[VariantResult]:
    """Score every variant.

    Args:
        members: of the grid, all finished; where the first seed chose, those that it kept.
        choose_by: validation score by which one of several settings is kept.
        n_resamples: bootstrap samples of the patients.
        seed: of the bootstrap; the same samples for every variant.
        chosen_by: the seed that chose for all; None: every seed chose.

    Raises:
        UserError: if predictions are missing, or folds of one variant share documents.
    """
    spaces = _spaces(members)
    labels = sorted({label for space in spaces.values() for label in space.labels})
    how: dict[str, Any] = {"n_resamples": n_resamples, "seed": seed}
    results: dict[str, VariantResult] = {}
    baseline = VariantResult(BASELINE)
    for (variant, seed_of_training), chosen in _kept(members, spaces, choose_by).items():
        result = results.setdefault(variant, VariantResult(variant))
        parts = [_coded(member, spaces, member.config.evaluate.split) for member in chosen]
        if "train_counts" not in how:  # the same bands for all
            trained_on = [split_label_sets(member.config.experiment_dir, "train") for member in chosen]
            how["train_counts"] = _counts_where_tested(parts, trained_on, labels)
        choices = [member.choice for member in chosen] if chosen_by in (None, seed_of_training) else []
        result.add_seed(_pool(parts, labels), choices, **how)
        if variant == members[0].variant:
            lexical = [
                load_baseline_split(member.config.experiment_dir, part, member.config.evaluate.split)
                for member, part in zip(chosen, parts, strict=True)
            ]
            known = [part for part in lexical if part is not None]
            if len(known) == len(lexical):
                baseline.add_seed(_pool(known, labels), [], **how)
    return [*results.values(), *([baseline] if baseline.scores else [])]


def keep_best(members: Sequence[Member], *, choose_by: str) -> list[Member]:
    """Of the members of each variant, seed and fold the best on split val.

    Raises:
        UserError: if predictions of split val are missing.
    """
    return [member for kept in _kept(members, _spaces(members), choose_by).values() for member in kept]


def _spaces(members: Iterable[Member]) -> dict[str, LabelSpace]:
    """Label space of every member, by its folder."""
    return {
        member.folder: LabelSpace.load(need(member.config.experiment_dir, "label_space.json")) for member in members
    }


def _kept(
    members: Sequence[Member], spaces: Mapping[str, LabelSpace], choose_by: str
) -> dict[tuple[str, int], list[Member]]:
    """The members of each variant and seed, one a fold: of several, the best on validation."""
    candidates: dict[tuple[str, int, int | None], list[Member]] = {}
    for member in members:
        candidates.setdefault((member.variant, member.seed, member.fold), []).append(member)
    kept: dict[tuple[str, int], list[Member]] = {}
    for (variant, seed, _), several in candidates.items():
        best = several[0]
        if len(several) > 1:
            best = max(several, key=lambda member: _validation_score(_coded(member, spaces, "val"), choose_by))
        kept.setdefault((variant, seed), []).append(best)
    return kept


def _validation_score(coded: CodedSplit, name: str) -> float:
    scores = set_scores(coded.true, coded.predicted) | rank_scores(coded.true, coded.probabilities, ks=())
    return scores[name]


def _coded(member: Member, spaces: Mapping[str, LabelSpace], split: str) -> CodedSplit:
    coded = load_coded_split(member.config.experiment_dir, split, spaces[member.folder])
    if coded is None:
        raise UserError(f"{member.folder}: no document of split {split!r} was coded; add it to predict.splits.")
    return coded


def _counts_where_tested(
    parts: Sequence[CodedSplit], trained_on: Sequence[Sequence[Sequence[str]]], labels: Sequence[str]
) -> list[int]:
    """Training documents of each label in the folds that test it: mean over its uses, rounded.

    A code with one document has one training document in every fold but the one that tests it, which has none. Counted
    from documents: a label space can lack a code that its training documents have.
    """
    place = {label: index for index, label in enumerate(labels)}
    n_uses, sums, highest = (np.zeros(len(labels)) for _ in range(3))
    for coded, of_train in zip(parts, trained_on, strict=True):
        space = coded.label_space
        known = [place[one] for given in of_train for one in space.raised(given) if one in place]
        counts = np.bincount(np.asarray(known, dtype=np.int64), minlength=len(labels))
        used = [place[one] for given in coded.gold for one in space.raised(given) if one in place]
        uses = np.bincount(np.asarray(used, dtype=np.int64), minlength=len(labels))
        n_uses, sums, highest = n_uses + uses, sums + uses * counts, np.maximum(highest, counts)
    return [round(float(n)) for n in np.where(n_uses > 0, ratio(sums, n_uses), highest)]


def _pool(parts: Sequence[CodedSplit], labels: Sequence[str]) -> Pooled:
    """Put folds under each other, in the label space of the whole grid, in the order of document ids."""
    place = {label: index for index, label in enumerate(labels)}
    document_ids: list[str] = []
    patients: list[str] = []
    true: list[list[int]] = []
    predicted: list[list[int]] = []
    blocks = []
    for coded in parts:
        space = coded.label_space
        columns = [place[label] for label in space.labels]
        document_ids += coded.document_ids
        patients += coded.patients
        # Not coded.true, which lacks what this fold's label space lacks.
        true += [sorted(place[one] for one in space.raised(labels) if one in place) for labels in coded.gold]
        predicted += [[columns[one] for one in row] for row in label_lists(coded.predicted)]
        block = np.zeros((len(coded.document_ids), len(labels)), dtype=np.float32)
        block[:, columns] = coded.probabilities
        blocks.append(block)
    if len(set(document_ids)) != len(document_ids):
        raise UserError("folds of the grid share documents, so their predictions cannot be pooled.")
    order = np.argsort(np.asarray(document_ids), kind="stable").tolist()
    sorted_true, sorted_predicted = (
        label_matrix([rows[index] for index in order], len(labels)) for rows in (true, predicted)
    )
    ids, whose = ([names[index] for index in order] for names in (document_ids, patients))
    return Pooled(ids, whose, sorted_true, sorted_predicted, np.concatenate(blocks)[order])


def as_rows(results: Sequence[VariantResult], *, reference: str | None) -> list[dict[str, Any]]:
    """One row a variant: means and standard deviations over seeds, and differences to the reference with intervals.

    A variant that was tested on other documents than the reference, or has other patients or labels for them, gets no
    difference.

    Args:
        results: of :func:`collect`.
        reference: variant that others are compared with; None: the first.
    """
    base = next((one for one in results if one.variant == reference), results[0])
    rows = []
    for result in results:
        table = pd.DataFrame(result.scores)
        row: dict[str, Any] = {
            "variant": result.variant,
            "n_seeds": len(table),
            "n_documents": len(result.document_ids),
            "n_patients": len(set(result.patients)),
        }
        for name in table.columns:
            row[name] = float(table[name].mean())
            if name in HEADLINE and len(table) > 1:
                row[f"{name}_sd"] = float(table[name].std(ddof=1))
        row["chosen"] = "; ".join(f"{choice} ({n}x)" for choice, n in sorted(result.choices.items()))
        row["is_comparable"] = result is base or result.has_truth_of(base)
        if not row["is_comparable"]:
            logger.warning(
                "variant %s: tested on other documents, patients or labels than %s", result.variant, base.variant
            )
        elif result is not base and result.distributions:
            for name in COMPARED:
                row |= _difference(name, row[name] - pd.DataFrame(base.scores)[name].mean(), result, base)
        rows.append(row)
    return rows


def _difference(name: str, difference: float, result: VariantResult, base: VariantResult) -> dict[str, float]:
    """Difference of means with its paired 95 % bootstrap interval."""
    low, high = difference_interval(name, difference, result.distributions[name] - base.distributions[name])
    return {f"{name}_difference": difference, f"{name}_low": low, f"{name}_high": high}
