"""How far to believe evidence: what becomes of a probability without it, and with nothing else.

Source:
    Comprehensiveness and sufficiency: DeYoung et al. 2020 (ERASER), here for one label of many and beside random spans
    of the same lengths.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.coding.ensemble import CodingModel
from pipeline.notes.spans import LabelSpans, Span, random_runs

_WORD = re.compile(r"(\S+)\s*")
_MEASURES = ("comprehensiveness", "sufficiency", "comprehensiveness_random", "sufficiency_random", "share")


@dataclass(frozen=True)
class Explained:
    """One code of a document with the spans it rests on.

    Attributes:
        text: of the document.
        label_id: of the code.
        spans: in characters of the text, one at least.
    """

    text: str
    label_id: int
    spans: Sequence[Span]


def measure_faithfulness(
    model: CodingModel, explained: Sequence[Explained], *, max_tokens: int, seed: int = 0
) -> dict[str, float]:
    """How far probabilities hang on the evidence, against random spans of the same lengths.

    Comprehensiveness is the drop of the code's probability when the words of the evidence are removed from the document
    (high is good), sufficiency the drop when only they are kept (low is good). What is left is read by the whole model.

    Args:
        model: that gave the evidence.
        explained: documents and codes.
        max_tokens: size of a micro-batch of the neural part.
        seed: of the random spans.

    Returns:
        Means over codes: evidence_comprehensiveness, evidence_sufficiency, the same two with ``_random``, the share of
        words that is evidence (evidence_share), and n_evidence_codes; where evidence has several sources, the same of
        each by itself, as evidence_title_comprehensiveness and so on. Only the count, 0, where nothing was given.
    """
    generator = np.random.default_rng(seed)
    rows: dict[str, list[list[float]]] = {"": []}
    for one in explained:
        sources = list(dict.fromkeys(span.source for span in one.spans))
        by_source = [[span for span in one.spans if span.source == source] for source in sources]
        parts = [one.spans, *(by_source if len(sources) > 1 else [])]
        measured = _measure(model, one, parts, max_tokens, generator)
        rows[""].append(measured[0])
        for source, row in zip(sources, measured[-len(sources) :], strict=True):  # one source alone is all there is
            rows.setdefault(source, []).append(row)
    result = {"n_evidence_codes": float(len(explained))}
    for source, measured in rows.items():
        if measured and (not source or len(rows) > 2):
            prefix = f"evidence_{source}_" if source else "evidence_"
            means = np.mean(measured, axis=0).tolist()
            result |= {f"{prefix}{name}": value for name, value in zip(_MEASURES, means, strict=True)}
            result[f"n_{prefix}codes"] = float(len(measured))
    return result


def _measure(
    model: CodingModel,
    one: Explained,
    parts: Sequence[Sequence[Span]],
    max_tokens: int,
    generator: np.random.Generator,
) -> list[list[float]]:
    """``_MEASURES`` of one code for each part of its evidence, in order; the whole text is read once."""
    words = list(_WORD.finditer(one.text))
    masks = []
    for spans in parts:
        inside = np.array(
            [any(word.start() < span.end and span.start < word.end(1) for span in spans) for word in words]
        )
        elsewhere = random_runs(inside, generator)
        masks.append((~inside, inside, ~elsewhere, elsewhere))
    cut = ["".join(map(_kept, words, mask)) for of_part in masks for mask in of_part]
    coded = model.code_texts([one.text, *cut], max_tokens=max_tokens)
    whole, *others = (float(of_text.probabilities[one.label_id]) for of_text in coded)
    drops = np.reshape(whole - np.array(others), (len(parts), -1))
    return [[*row, float(of_part[1].mean())] for row, of_part in zip(drops.tolist(), masks, strict=True)]


def _kept(word: re.Match[str], is_kept: bool) -> str:
    """A word with the blanks behind it; of one that is taken out the end of its line, on which headers hang."""
    return word[0] if is_kept else "\n" * ("\n" in word[0])


class FaithfulnessSample:
    """Up to 100 documents, evenly over the rows, with one predicted code each, drawn at random with a fixed seed."""

    def __init__(self, n_rows: int, *, n_documents: int = 100) -> None:
        self._step = max(-(-n_rows // n_documents), 1)
        self._generator = np.random.default_rng(0)
        self._drawn: list[Explained] = []

    def add(
        self, first: int, label_ids: Sequence[Sequence[int]], spans: Sequence[LabelSpans], texts: Sequence[str]
    ) -> None:
        """Draw from a block of documents, with predicted labels and evidence; ``first`` is its place in the rows."""
        for place in range(-first % self._step, len(label_ids), self._step):
            explained = [one for one in zip(label_ids[place], spans[place], strict=True) if one[1]]
            if explained:
                label_id, found = explained[int(self._generator.integers(len(explained)))]
                self._drawn.append(Explained(texts[place], label_id, found))

    def measure(self, model: CodingModel, *, max_tokens: int) -> dict[str, float]:
        """See :func:`measure_faithfulness`."""
        return measure_faithfulness(model, self._drawn, max_tokens=max_tokens)
