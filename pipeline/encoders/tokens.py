"""Tokens: text becomes an Arrow data set, one row a document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from pipeline.icd.labels import LabelSpace
from pipeline.notes.context import ContextSpan, annotate
from pipeline.notes.text import Section, find_sections
from pipeline.notes.triggers import KINDS

_CONTEXT_ROOM = 2000  # characters behind the last token kept that may say something of it ("... was ruled out")
AFFIRMED = 0  # context id of a token outside every context span; the others follow triggers.KINDS
TOKEN_FEATURES = datasets.Features(
    {
        "document_id": datasets.Value("string"),
        "split": datasets.Value("string"),
        "input_ids": datasets.List(datasets.Value("int32")),
        "token_starts": datasets.List(datasets.Value("int32")),
        "token_ends": datasets.List(datasets.Value("int32")),
        "context_ids": datasets.List(datasets.Value("int8")),
        "sections": datasets.List(
            {
                "name": datasets.Value("string"),
                "start": datasets.Value("int32"),
                "end": datasets.Value("int32"),
            }
        ),
        "label_ids": datasets.List(datasets.Value("int32")),
        "n_labels_outside": datasets.Value("int32"),
        "n_tokens_cut": datasets.Value("int32"),
    }
)


@dataclass(frozen=True)
class Tokenize:
    """Turn texts into token columns: ids, character offsets, context of each token, sections.

    Attributes:
        tokenizer: a fast tokenizer of transformers; special tokens are not added here.
        max_tokens: tokens kept of a document, from its beginning.
        has_context: mark negated, family, historical and uncertain tokens.
    """

    tokenizer: Any
    max_tokens: int
    has_context: bool

    def __call__(self, texts: Sequence[str]) -> dict[str, list[Any]]:
        """Columns of ``TOKEN_FEATURES`` that depend on the text alone."""
        columns: dict[str, list[Any]] = {name: [] for name in _TEXT_COLUMNS}
        if not texts:  # a tokenizer of transformers fails on none
            return columns
        encoded = self.tokenizer(
            list(texts),
            add_special_tokens=False,
            split_special_tokens=True,  # "[SEP]" in a document is text
            return_offsets_mapping=True,
            return_attention_mask=False,
            verbose=False,
        )
        forms = self._forms(texts, encoded["offset_mapping"])
        for text, all_ids, all_offsets, (sections, contexts) in zip(
            texts, encoded["input_ids"], encoded["offset_mapping"], forms, strict=True
        ):
            # A text of nothing but characters that the tokenizer drops still needs one token to attend to.
            ids = all_ids or [self.tokenizer.unk_token_id]
            offsets = _without_blanks(text, (all_offsets or [(0, len(text))])[: self.max_tokens])
            columns["input_ids"].append(ids[: self.max_tokens])
            columns["token_starts"].append(offsets[:, 0])
            columns["token_ends"].append(offsets[:, 1])
            columns["context_ids"].append(_context_ids(contexts, offsets[:, 0]))
            columns["sections"].append([{"name": one.name, "start": one.start, "end": one.end} for one in sections])
            columns["n_tokens_cut"].append(max(len(ids) - self.max_tokens, 0))
        return columns

    def _forms(
        self, texts: Sequence[str], offsets: Sequence[Sequence[tuple[int, int]]]
    ) -> Iterator[tuple[list[Section], list[ContextSpan]]]:
        if not self.has_context:
            return ((find_sections(text), []) for text in texts)
        read = [
            text[: of_text[self.max_tokens - 1][1] + _CONTEXT_ROOM] if len(of_text) > self.max_tokens else text
            for text, of_text in zip(texts, offsets, strict=True)
        ]
        return (
            (form.sections if len(part) == len(text) else find_sections(text), form.contexts)
            for text, part, form in zip(texts, read, annotate(read), strict=True)
        )


def _without_blanks(text: str, offsets: Sequence[tuple[int, int]]) -> np.ndarray:
    """Offsets (n_tokens, 2) int32 of tokens without the blanks before them, which byte-level tokenizers count in."""
    kept = [len(text[start:end].lstrip()) or end - start for start, end in offsets]  # all of a token of blanks alone
    return np.array([(end - n, end) for n, (_, end) in zip(kept, offsets, strict=True)], dtype=np.int32)


def _context_ids(contexts: Sequence[ContextSpan], token_starts: np.ndarray) -> np.ndarray:
    """Context of each token; where several apply, the first of triggers.KINDS."""
    ids = np.full(len(token_starts), AFFIRMED, dtype=np.int8)
    for span in sorted(contexts, key=lambda span: KINDS.index(span.kind), reverse=True):
        ids[(token_starts >= span.start) & (token_starts < span.end)] = KINDS.index(span.kind) + 1
    return ids


_TEXT_COLUMNS = ("input_ids", "token_starts", "token_ends", "context_ids", "sections", "n_tokens_cut")


def tokenize_documents(
    documents_path: Path,
    split_of: Mapping[str, str],
    label_space: LabelSpace,
    tokenize: Tokenize,
    *,
    cache_dir: Path,
    n_workers: int,
) -> datasets.Dataset:
    """Tokenize the documents table.

    Args:
        documents_path: the documents table.
        split_of: document id -> split; documents without one are left out.
        label_space: turns labels into ids; labels outside it are counted per document.
        tokenize: see :class:`Tokenize`.
        cache_dir: folder for intermediate files, which hold patient text; the caller removes it.
        n_workers: processes; 0 or 1 for none beside this one.

    Returns:
        A data set of ``TOKEN_FEATURES`` in the order of the documents table.
    """
    raw = datasets.Dataset.from_parquet(str(documents_path), cache_dir=str(cache_dir / "read"), keep_in_memory=False)

    def rows(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        kept = [index for index, document_id in enumerate(batch["document_id"]) if document_id in split_of]
        encoded = [label_space.encode(batch["labels"][index]) for index in kept]
        document_ids = [batch["document_id"][index] for index in kept]
        return {
            "document_id": document_ids,
            "split": [split_of[document_id] for document_id in document_ids],
            "label_ids": [ids for ids, _ in encoded],
            "n_labels_outside": [n_outside for _, n_outside in encoded],
            **tokenize([batch["text"][index] for index in kept]),
        }

    cache_dir.mkdir(parents=True, exist_ok=True)
    return raw.map(
        rows,
        batched=True,
        batch_size=64,
        num_proc=n_workers if n_workers > 1 and len(raw) >= 64 * n_workers else None,
        remove_columns=raw.column_names,
        features=TOKEN_FEATURES,
        cache_file_name=str(cache_dir / "tokens.arrow"),
        desc="tokenize",
    )


def select_rows(tokens: datasets.Dataset, *splits: str) -> list[int]:
    """Rows of one split or several, in order."""
    return [row for row, split in enumerate(tokens["split"]) if split in splits]
