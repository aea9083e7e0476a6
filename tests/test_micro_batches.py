"""Chunks hold every token, micro-batches every document once and with little padding."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.encoders.micro_batches import (
    Batch,
    ChunkSettings,
    MicroBatch,
    build_micro_batches,
)
from pipeline.encoders.tokens import AFFIRMED

CLS, SEP, PAD = 102, 103, 100
SETTINGS = ChunkSettings(chunk_tokens=10, chunk_overlap=2, cls_id=CLS, sep_id=SEP, pad_id=PAD)
TOKEN_LISTS = st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=60), min_size=1, max_size=10)
CHUNKINGS = st.integers(8, 24).flatmap(lambda width: st.tuples(st.just(width), st.integers(0, width // 2 - 1)))


@given(st.integers(1, 200), CHUNKINGS)
def test_chunks_cover_every_token_in_order_and_share_the_overlap(n_tokens: int, chunking: tuple[int, int]) -> None:
    width, overlap = chunking
    spans = ChunkSettings(width, overlap, CLS, SEP, PAD).chunks(n_tokens)
    assert spans[0][0] == 0
    assert spans[-1][1] == n_tokens
    widths = [end - start for start, end in spans]
    assert max(widths) <= width - 2
    assert max(widths) - min(widths) <= 1, "no chunk is a remainder"
    assert len(spans) == max(1, math.ceil((n_tokens - overlap) / (width - 2 - overlap))), "and there are no more"
    assert all(end - start == overlap for (start, _), (_, end) in zip(spans[1:], spans, strict=False))
    assert all(end > before for (_, before), (_, end) in itertools.pairwise(spans)), "every chunk adds a token"


def test_a_document_that_just_fits_is_one_chunk_and_one_token_more_makes_two() -> None:
    """A window of 10 holds CLS, 8 tokens of text and SEP; two chunks share 2 tokens."""
    assert SETTINGS.chunks(8) == [(0, 8)]
    assert SETTINGS.chunks(9) == [(0, 5), (3, 9)]
    assert SETTINGS.chunks(1) == [(0, 1)]


def micro_batches(ids: Sequence[Sequence[int]], settings: ChunkSettings, max_tokens: int) -> list[MicroBatch]:
    context = [[one % 3 for one in document] for document in ids]
    return build_micro_batches([index + 50 for index in range(len(ids))], ids, context, settings, max_tokens=max_tokens)


@given(TOKEN_LISTS, CHUNKINGS, st.integers(1, 400))
def test_micro_batches_hold_every_token_of_every_document_once_and_stay_within_their_size(
    ids: list[list[int]], chunking: tuple[int, int], max_tokens: int
) -> None:
    settings = ChunkSettings(*chunking, CLS, SEP, PAD)
    batches = micro_batches(ids, settings, max_tokens)
    assert sorted(torch.cat([one.rows for one in batches]).tolist()) == [index + 50 for index in range(len(ids))]
    lengths = [len(ids[row - 50]) for one in batches for row in one.rows.tolist()]
    assert lengths == sorted(lengths), "documents of one length stand together, so that little is padded"
    for batch in batches:
        assert batch.input_ids.numel() <= max_tokens or len(batch) == 1
        for place, row in enumerate(batch.rows.tolist()):
            document = ids[row - 50]
            chunks = (batch.document_of_chunk == place).nonzero().flatten().tolist()
            spans = settings.chunks(len(document))
            assert batch.chunk_of_document[chunks].tolist() == list(range(len(spans)))
            owned: list[int] = []
            for chunk, (start, end) in zip(chunks, spans, strict=True):
                part = document[start:end]
                n_padding = batch.input_ids.shape[1] - len(part) - 2
                assert batch.input_ids[chunk].tolist() == [CLS, *part, SEP] + [PAD] * n_padding
                assert batch.attention_mask[chunk].tolist() == [True] * (len(part) + 2) + [False] * n_padding
                owned += (batch.text_mask[chunk].nonzero().flatten() - 1 + start).tolist()
                assert batch.context_ids[chunk, 1 : len(part) + 1].tolist() == [one % 3 for one in part]
                outside = [*batch.context_ids[chunk, :1], *batch.context_ids[chunk, len(part) + 1 :]]
                assert outside == [AFFIRMED] * (n_padding + 2)
            assert owned == list(range(len(document))), "a token that two chunks share counts in one of them"


@given(TOKEN_LISTS, CHUNKINGS, st.integers(1, 400))
def test_a_micro_batch_ends_where_the_next_document_would_not_fit_or_pad_it_too_much(
    ids: list[list[int]], chunking: tuple[int, int], max_tokens: int
) -> None:
    settings = ChunkSettings(*chunking, CLS, SEP, PAD)

    def is_too_much(rows: list[int]) -> bool:
        """Whether documents, alone of their widths in steps of eight, do not fit together."""
        spans = [settings.chunks(len(ids[row - 50])) for row in rows]
        widths = [
            min(-(-(max(end - start for start, end in one) + 2) // 8) * 8, settings.chunk_tokens) for one in spans
        ]
        size = sum(map(len, spans)) * max(widths)
        padding = size - sum(len(one) * width for one, width in zip(spans, widths, strict=True))
        return size > max_tokens or padding > max_tokens / 16

    batches = micro_batches(ids, settings, max_tokens)
    for batch, following in itertools.pairwise(batches):
        assert is_too_much([*batch.rows.tolist(), int(following.rows[0])])
    assert not any(is_too_much(batch.rows.tolist()) for batch in batches if len(batch) > 1)


def test_one_long_document_does_not_pad_the_short_ones_of_its_batch() -> None:
    batches = micro_batches([[7] * 10] * 15 + [[7] * 100], ChunkSettings(254, 0, CLS, SEP, PAD), max_tokens=2048)
    assert [tuple(one.input_ids.shape) for one in batches] == [(15, 16), (1, 104)]


def test_one_token_more_than_a_window_does_not_double_the_work() -> None:
    """511 tokens and a window with 510 for text: two chunks of about 256, not one of 510 and one of a single token."""
    (batch,) = micro_batches([[7] * 511], ChunkSettings(512, 0, CLS, SEP, PAD), max_tokens=2048)
    assert tuple(batch.input_ids.shape) == (2, 264)


def test_a_micro_batch_may_be_exactly_as_large_as_allowed_and_no_larger() -> None:
    """Two documents of 4 tokens, with CLS and SEP, are 8 wide and take 16."""
    assert [len(one) for one in micro_batches([[7] * 4, [8] * 4], SETTINGS, max_tokens=16)] == [2]
    assert [len(one) for one in micro_batches([[7] * 4, [8] * 4], SETTINGS, max_tokens=15)] == [1, 1]


def test_of_shared_tokens_the_earlier_chunk_owns_the_first_half() -> None:
    """Windows of 10 with 8 for text, 3 shared: 0-7, 4-11, 8-15. Of 4, 5, 6 the first chunk owns 4, of 8, 9, 10 the
    second owns 8: chunks own 0-5, 5-9 and 9-15.
    """
    settings = ChunkSettings(10, 3, CLS, SEP, PAD)
    (batch,) = micro_batches([list(range(20, 35))], settings, 100)
    assert settings.chunks(15) == [(0, 7), (4, 11), (8, 15)]
    found = [ids[mask].tolist() for ids, mask in zip(batch.input_ids, batch.text_mask, strict=True)]
    assert found == [list(range(20, 25)), list(range(25, 29)), list(range(29, 35))]


def test_no_document_makes_no_micro_batch() -> None:
    assert micro_batches([], SETTINGS, 100) == []


def test_a_document_longer_than_a_micro_batch_stands_alone_and_whole() -> None:
    """80 tokens in windows of 10 with 8 for text, 2 shared: 13 chunks, 130 places."""
    (short, long) = micro_batches([[7] * 80, [7]], SETTINGS, max_tokens=40)
    assert (len(short), short.input_ids.shape) == (1, (1, 8))
    assert (len(long), long.input_ids.shape) == (1, (13, 10))


def test_moving_a_batch_keeps_its_values_and_types() -> None:
    batches = micro_batches([[1, 2], [3]], SETTINGS, 100)
    moved = Batch(batches, [[0], []], n_global=4).to("cpu")
    assert len(moved) == 2
    assert moved.n_global == 4
    assert torch.equal(moved.micro_batches[0].input_ids, batches[0].input_ids)
    assert {moved.micro_batches[0].text_mask.dtype, moved.micro_batches[0].attention_mask.dtype} == {torch.bool}
    assert moved.micro_batches[0].input_ids.dtype == torch.int64
