"""Where label vectors start: at titles of codes as the encoder sees them, or at those near by in the code tree."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pipeline.coding.classifier import embed_texts
from pipeline.encoders.encoder import DocumentEncoder
from pipeline.encoders.micro_batches import ChunkSettings
from pipeline.icd.codes import parent, parse_label
from pipeline.icd.labels import LabelSpace

logger = logging.getLogger(__name__)


class LabelStarts(NamedTuple):
    """A vector for each label.

    Attributes:
        embeddings: (n_labels, dim) float32; 0 where there is none.
        is_known: (n_labels,), whether the label has one.
    """

    embeddings: Tensor
    is_known: list[bool]


def title_sources(labels: Sequence[str], titles: Sequence[str | None]) -> list[list[int]]:
    """Whose titles each label starts from.

    Args:
        labels: with their code system.
        titles: of the labels, None where unknown.

    Returns:
        For each label: itself where it has a title; else the labels with a title at or below its nearest ancestor
        that has any; none where there is no such ancestor, as for labels of code system "none".

    Example:
        >>> title_sources(["icd10cm:E11.9", "icd10cm:E11.65", "icd10cm:I10"], ["Diabetes", None, None])
        [[0], [0], []]
    """
    below: dict[str, list[int]] = defaultdict(list)
    for index, (label, title) in enumerate(zip(labels, titles, strict=True)):
        if title is not None:
            for place in (label, *_ancestors(label)):
                below[place].append(index)
    sources = []
    for index, (label, title) in enumerate(zip(labels, titles, strict=True)):
        near = (below[ancestor] for ancestor in _ancestors(label) if ancestor in below)
        sources.append([index] if title is not None else next(near, []))
    return sources


def _ancestors(label: str) -> Iterator[str]:
    system, code = parse_label(label)
    above = parent(code, system)
    while above is not None:
        yield f"{system}:{above}"
        above = parent(above, system)


@torch.no_grad()
def label_starts(
    encoder: DocumentEncoder, tokenizer: Any, label_space: LabelSpace, chunks: ChunkSettings
) -> LabelStarts:
    """Encode the titles of a label space. Call it before frozen layers are cached.

    Args:
        encoder: as it is now.
        tokenizer: of the encoder.
        label_space: labels and titles.
        chunks: how texts are cut.
    """
    sources = title_sources(label_space.labels, label_space.titles)
    titled = [index for index, title in enumerate(label_space.titles) if title is not None]
    device = next(encoder.parameters()).device
    embeddings = torch.zeros(len(label_space), encoder.dim, device=device)
    if titled:
        of_titles = embed_texts(encoder, tokenizer, [str(label_space.titles[index]) for index in titled], chunks)
        place = {index: row for row, index in enumerate(titled)}
        for index, near in enumerate(sources):
            if near:
                embeddings[index] = of_titles[[place[one] for one in near]].mean(dim=0)
    is_known = [bool(near) for near in sources]
    if any(is_known):
        from_tree = sum(is_known) - len(titled)
        logger.info("%d labels start from their title, %d from titles near by in the code tree", len(titled), from_tree)
    return LabelStarts(embeddings, is_known)
