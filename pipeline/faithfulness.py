"""How far to believe evidence: what becomes of a probability without it, and with nothing else.

Source:
    Comprehensiveness and sufficiency: DeYoung et al. 2020 (ERASER), here for one label of many and beside random spans
    of the same lengths.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import datasets
import numpy as np

from pipeline.encoder_spans import TOKEN_COLUMNS, Columns, EncoderExplainer
from pipeline.spans import LabelSpans, Span, random_runs, tokens_within
from pipeline.tokens import AFFIRMED


@dataclass(frozen=True)
class Explained:
    """One code of a document with the tokens it rests on.

    Attributes:
        input_ids, context_ids: tokens of the whole document, (n_tokens,).
        label_id: of the code.
        inside: whether a token belongs to the evidence, (n_tokens,) bool.
    """

    input_ids: np.ndarray
    context_ids: np.ndarray
    label_id: int
    inside: np.ndarray


def explained_of(columns: Columns, place: int, label_id: int, spans: Sequence[Span]) -> Explained:
    """What :func:`measure_faithfulness` needs of one document and one of its codes."""
    ids, context, starts, ends = (np.asarray(columns[name][place], dtype=np.int64) for name in TOKEN_COLUMNS[:4])
    return Explained(ids, context, label_id, tokens_within(spans, starts, ends))


def measure_faithfulness(
    explainer: EncoderExplainer, explained: Iterable[Explained], *, seed: int = 0
) -> dict[str, float]:
    """How far probabilities hang on the evidence, against random spans of the same lengths.

    Comprehensiveness is the drop of the code's probability when the evidence is removed from the document (high is
    good), sufficiency the drop when only the evidence is kept (low is good). Tokens are taken out, not masked, and
    the rest is encoded anew.

    Args:
        explainer: with the model to ask.
        explained: documents and codes; 4 + 1 sequences are encoded for each.
        seed: of the random spans.

    Returns:
        Means over codes: evidence_comprehensiveness, evidence_sufficiency, the same two with ``_random``, the share of
        tokens that is evidence (evidence_share), and n_evidence_codes; only the count, 0, where nothing was given.
    """
    generator = np.random.default_rng(seed)
    unknown = int(explainer.classifier.tokenizer.unk_token_id)
    drops: list[np.ndarray] = []
    shares: list[float] = []
    for one in explained:
        elsewhere = random_runs(one.inside, generator)
        kept = (np.ones_like(one.inside), ~one.inside, one.inside, ~elsewhere, elsewhere)
        ids = [one.input_ids[mask] if mask.any() else np.array([unknown]) for mask in kept]
        context = [one.context_ids[mask] if mask.any() else np.array([AFFIRMED]) for mask in kept]
        found = explainer.probabilities(ids, context, [one.label_id] * len(kept))  # type: ignore[arg-type]
        drops.append(found[0] - found[1:])
        shares.append(float(one.inside.mean()))
    if not drops:
        return {"n_evidence_codes": 0.0}
    means = np.mean(drops, axis=0)
    names = ("comprehensiveness", "sufficiency", "comprehensiveness_random", "sufficiency_random")
    result = {f"evidence_{name}": float(value) for name, value in zip(names, means, strict=True)}
    return result | {"evidence_share": float(np.mean(shares)), "n_evidence_codes": float(len(drops))}


class FaithfulnessSample:
    """Up to 200 documents, evenly over the rows, with one predicted code each, drawn at random with a fixed seed."""

    def __init__(self, tokens: datasets.Dataset, rows: Sequence[int], *, n_documents: int = 200) -> None:
        self._tokens, self._rows = tokens, rows
        self._step = max(-(-len(rows) // n_documents), 1)
        self._generator = np.random.default_rng(0)
        self._drawn: list[tuple[int, int, list[Span]]] = []

    def add(self, first: int, label_ids: Sequence[Sequence[int]], spans: Sequence[LabelSpans]) -> None:
        """Draw from a block of documents with their predicted labels and evidence; ``first`` is its place in rows."""
        for place in range(-first % self._step, len(label_ids), self._step):
            of_encoder = ([one for one in found if one.source == "encoder"] for found in spans[place])
            explained = [one for one in zip(label_ids[place], of_encoder, strict=True) if one[1]]
            if explained:
                label_id, found = explained[int(self._generator.integers(len(explained)))]
                self._drawn.append((self._rows[first + place], label_id, found))

    def measure(self, explainer: EncoderExplainer) -> dict[str, float]:
        """See :func:`measure_faithfulness`."""
        columns = self._tokens.select_columns(list(TOKEN_COLUMNS[:4]))
        return measure_faithfulness(
            explainer, (explained_of(columns[row : row + 1], 0, label, spans) for row, label, spans in self._drawn)
        )
