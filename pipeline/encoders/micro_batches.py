"""Documents of tokens become micro-batches of chunks with little padding."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import datasets
import numpy as np
import torch
from torch import Tensor

from pipeline.encoders.tokens import AFFIRMED
from pipeline.errors import UserError

# Widths are multiples of this: half precision is faster then, and oneDNN keeps a kernel for every shape it has seen.
_WIDTH_STEP = 8
_PADDING_SHARE = 16  # of a micro-batch; with less padding there are more, and smaller, micro-batches


@dataclass(frozen=True)
class ChunkSettings:
    """How documents are cut for the encoder.

    Attributes:
        chunk_tokens: window of the encoder, special tokens included.
        chunk_overlap: tokens that neighbouring chunks of a document share.
        cls_id, sep_id, pad_id: special tokens; a chunk is CLS, tokens of text, SEP.
    """

    chunk_tokens: int
    chunk_overlap: int
    cls_id: int
    sep_id: int
    pad_id: int

    def chunks(self, n_tokens: int) -> list[tuple[int, int]]:
        """Token spans of the chunks of a document: as few as there can be, and of equal widths but for one token.

        A last chunk of what is left would be padded to the width of the others, and its tokens would see little else.

        Example:
            >>> ChunkSettings(6, 1, 101, 102, 0).chunks(8), ChunkSettings(6, 0, 101, 102, 0).chunks(5)
            ([(0, 3), (2, 5), (4, 8)], [(0, 2), (2, 5)])
        """
        step = self.chunk_tokens - 2 - self.chunk_overlap
        n_new = max(n_tokens - self.chunk_overlap, 1)  # tokens that no chunk shares with the one before, and the rest
        n_chunks = -(-n_new // step)
        starts = [number * n_new // n_chunks for number in range(n_chunks + 1)]
        return [(start, min(end + self.chunk_overlap, n_tokens)) for start, end in itertools.pairwise(starts)]

    def width(self, n_tokens: int) -> int:
        """Width of a micro-batch whose longest chunk has so many tokens of text.

        Example:
            >>> settings = ChunkSettings(30, 0, 101, 102, 0)
            >>> [settings.width(n_tokens) for n_tokens in (1, 6, 7, 28)]
            [8, 8, 16, 30]
        """
        return min(-(-(n_tokens + 2) // _WIDTH_STEP) * _WIDTH_STEP, self.chunk_tokens)

    def own(self, span: tuple[int, int], n_tokens: int) -> tuple[int, int]:
        """Which tokens of a chunk count as its own, so that every token of a document counts once.

        Of the tokens that two chunks share the earlier chunk owns the first half, the later one the rest.

        Args:
            span: tokens of the chunk, one of :meth:`chunks`.
            n_tokens: tokens of the document.

        Returns:
            First token and end, counted from the start of the chunk.

        Example:
            >>> settings = ChunkSettings(8, 2, 101, 102, 0)
            >>> spans = settings.chunks(9)
            >>> spans, [settings.own(span, 9) for span in spans]
            ([(0, 5), (3, 9)], [(0, 4), (1, 6)])
        """
        start, end = span
        kept_by_earlier = self.chunk_overlap // 2
        first = kept_by_earlier if start else 0
        return first, end - start - (self.chunk_overlap - kept_by_earlier if end < n_tokens else 0)


def chunk_settings(tokenizer: Any, *, chunk_tokens: int, chunk_overlap: int) -> ChunkSettings:
    """Chunk settings of a tokenizer.

    Raises:
        UserError: if it has no CLS, SEP or padding token (it is not an encoder's).
    """
    ids = (tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id)
    if None in ids:
        raise UserError(f"the tokenizer of {tokenizer.name_or_path} has no CLS, SEP or padding token: not an encoder.")
    return ChunkSettings(chunk_tokens, chunk_overlap, *ids)


@dataclass(frozen=True)
class MicroBatch:
    """Whole documents that go through the encoder together, cut into chunks.

    Attributes:
        rows: which rows of the data set the documents are, (n_documents,).
        input_ids: (n_chunks, width) int64; chunks of one document stand together, in order.
        attention_mask: (n_chunks, width) bool, False on padding.
        text_mask: (n_chunks, width) bool, True on tokens of text (neither padding nor special). A token that two
            chunks share is True in one of them alone: where it has more context, half the overlap in each.
        context_ids: (n_chunks, width) int64.
        document_of_chunk: (n_chunks,) int64, position in ``rows``.
        chunk_of_document: (n_chunks,) int64, which chunk of its document.
    """

    rows: Tensor
    input_ids: Tensor
    attention_mask: Tensor
    text_mask: Tensor
    context_ids: Tensor
    document_of_chunk: Tensor
    chunk_of_document: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def to(self, device: torch.device | str) -> MicroBatch:
        """Move every tensor."""
        return replace(
            self, **{one.name: getattr(self, one.name).to(device, non_blocking=True) for one in fields(self)}
        )


@dataclass(frozen=True)
class Batch:
    """A step's documents of one process.

    Attributes:
        micro_batches: their encoder inputs, shortest documents first.
        label_ids: label sets in the order of the micro-batches' documents.
        n_global: documents of this step over all processes.
    """

    micro_batches: list[MicroBatch]
    label_ids: list[list[int]]
    n_global: int

    def __len__(self) -> int:
        return len(self.label_ids)

    @property
    def rows(self) -> Tensor:
        """Which rows of the data set the documents are, (n_documents,) int64."""
        return torch.cat([one.rows for one in self.micro_batches])

    def parts(self) -> list[Batch]:
        """One batch of the same step for each micro-batch."""
        ends = itertools.accumulate(len(one) for one in self.micro_batches)
        return [
            replace(self, micro_batches=[one], label_ids=self.label_ids[end - len(one) : end])
            for one, end in zip(self.micro_batches, ends, strict=True)
        ]

    def to(self, device: torch.device | str) -> Batch:
        """Move the micro-batches."""
        return replace(self, micro_batches=[one.to(device) for one in self.micro_batches])


def build_micro_batches(
    rows: Sequence[int],
    input_ids: Sequence[Sequence[int]],
    context_ids: Sequence[Sequence[int]],
    settings: ChunkSettings,
    *,
    max_tokens: int,
) -> list[MicroBatch]:
    """Sort documents by length and cut them into micro-batches with little padding.

    Args:
        rows: which row each document is.
        input_ids: tokens of each document, without special tokens.
        context_ids: context of each token.
        settings: how to cut.
        max_tokens: size of a micro-batch, n_chunks x width; a longer document stands alone. Padding is at most a
            sixteenth of it, but for the step of widths.
    """
    order = sorted(range(len(rows)), key=lambda index: (len(input_ids[index]), index))
    groups: list[list[int]] = [[]]
    n_chunks = n_tokens = widest = 0
    for index in order:
        spans = settings.chunks(len(input_ids[index]))
        width = settings.width(max(end - start for start, end in spans))
        n_after, widest = n_chunks + len(spans), max(widest, width)
        padding = n_after * widest - n_tokens - len(spans) * width
        if groups[-1] and (n_after * widest > max_tokens or padding > max_tokens / _PADDING_SHARE):
            groups.append([])
            n_chunks, n_tokens, widest = 0, 0, width
        groups[-1].append(index)
        n_chunks += len(spans)
        n_tokens += len(spans) * width
    return [_micro_batch(group, rows, input_ids, context_ids, settings) for group in groups if group]


def _micro_batch(
    group: Sequence[int],
    rows: Sequence[int],
    input_ids: Sequence[Sequence[int]],
    context_ids: Sequence[Sequence[int]],
    settings: ChunkSettings,
) -> MicroBatch:
    pieces = [
        (position, number, index, span)
        for position, index in enumerate(group)
        for number, span in enumerate(settings.chunks(len(input_ids[index])))
    ]
    width = settings.width(max(end - start for *_, (start, end) in pieces))
    ids = np.full((len(pieces), width), settings.pad_id, dtype=np.int64)
    context = np.full((len(pieces), width), AFFIRMED, dtype=np.int64)
    lengths = np.array([end - start for *_, (start, end) in pieces])
    own = np.array([settings.own(span, len(input_ids[index])) for *_, index, span in pieces])  # (n_chunks, 2)
    ids[:, 0] = settings.cls_id
    for chunk, (_, _, index, (start, end)) in enumerate(pieces):
        ids[chunk, 1 : end - start + 1] = input_ids[index][start:end]
        ids[chunk, end - start + 1] = settings.sep_id
        context[chunk, 1 : end - start + 1] = context_ids[index][start:end]
    column = np.arange(width)[None]
    return MicroBatch(
        rows=torch.tensor([rows[index] for index in group]),
        input_ids=torch.from_numpy(ids),
        attention_mask=torch.from_numpy(column < lengths[:, None] + 2),
        text_mask=torch.from_numpy((column > own[:, :1]) & (column <= own[:, 1:])),
        context_ids=torch.from_numpy(context),
        document_of_chunk=torch.tensor([position for position, *_ in pieces]),
        chunk_of_document=torch.tensor([number for _, number, *_ in pieces]),
    )


def iterate_micro_batches(
    tokens: datasets.Dataset,
    rows: Sequence[int],
    settings: ChunkSettings,
    *,
    max_tokens: int,
    n_documents: int = 256,
) -> Iterator[MicroBatch]:
    """Stream micro-batches over rows for inference, sorting by length within blocks of ``n_documents``."""
    for start in range(0, len(rows), n_documents):
        block = [int(row) for row in rows[start : start + n_documents]]
        columns = tokens.select_columns(["input_ids", "context_ids"])[block]
        yield from build_micro_batches(
            block, columns["input_ids"], columns["context_ids"], settings, max_tokens=max_tokens
        )
