"""From rows of the tokenized data set to batches, the same global ones on one process and on many."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import pyarrow.compute as pc
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader

from pipeline.encoders.encoder import DocumentEncoder
from pipeline.encoders.micro_batches import (
    Batch,
    ChunkSettings,
    build_micro_batches,
    chunk_settings,
    iterate_micro_batches,
)
from pipeline.experiment.settings import Compute, Encoding
from pipeline.experiment.training_settings import Training
from pipeline.training.sampling import BatchPlan, Partners


@dataclass(frozen=True)
class BatchLoader:
    """Turns planned rows into batches of tokens.

    Attributes:
        tokens: the tokenized data set.
        plan: which rows make up a step.
        settings: how documents are cut into chunks.
        micro_batch_tokens: size of a micro-batch.
        n_workers: processes that prepare batches; 0 for none beside this one.
    """

    tokens: datasets.Dataset
    plan: BatchPlan
    settings: ChunkSettings
    micro_batch_tokens: int
    n_workers: int = 0

    def epoch(self, epoch: int, *, first_step: int, accelerator: Accelerator) -> Iterator[Batch]:
        """This process's batches of an epoch, from ``first_step`` on."""
        planned = self.plan.local_batches(epoch, rank=accelerator.process_index, n_processes=accelerator.num_processes)[
            first_step:
        ]
        # A generator of its own: drawing from the global one here would change dropout after a resume.
        loader = DataLoader(
            _Planned(self, planned), batch_size=None, num_workers=self.n_workers, generator=torch.Generator()
        )
        for batch in loader:
            yield batch.to(accelerator.device)

    def collate(self, rows: Sequence[int], n_global: int) -> Batch:
        """Read rows and cut them into micro-batches."""
        rows = [int(row) for row in rows]
        columns = self.tokens.select_columns(["input_ids", "context_ids", "label_ids"])[rows]
        micro_batches = build_micro_batches(
            rows,
            columns["input_ids"],
            columns["context_ids"],
            self.settings,
            max_tokens=self.micro_batch_tokens,
        )
        labels_of_row = dict(zip(rows, columns["label_ids"], strict=True))
        label_ids = [labels_of_row[row] for one in micro_batches for row in one.rows.tolist()]
        return Batch(micro_batches, label_ids, n_global)


class _Planned(torch.utils.data.Dataset[Batch]):
    """Batches by step, for a DataLoader."""

    def __init__(self, loader: BatchLoader, planned: list[tuple[Any, int]]) -> None:
        self._loader, self._planned = loader, planned

    def __len__(self) -> int:
        return len(self._planned)

    def __getitem__(self, index: int) -> Batch:
        return self._loader.collate(*self._planned[index])


def build_loader(
    tokens: datasets.Dataset,
    rows: Sequence[int],
    tokenizer: Any,
    settings: Training,
    encoding: Encoding,
    *,
    seed: int,
    compute: Compute,
    partner_probability: float = 0.0,
    group_by_length: bool = False,
) -> BatchLoader:
    """Batches of ``rows`` as settings ask for them; with partners or of similar length, not both."""
    partners, lengths = None, lengths_of(tokens, rows) if group_by_length else None
    if partner_probability:
        partners = Partners(partner_probability, tokens.select_columns(["label_ids"])[rows]["label_ids"])
    return BatchLoader(
        tokens,
        BatchPlan(rows, settings.global_batch_size, seed, partners, lengths),
        chunk_settings(tokenizer, chunk_tokens=encoding.chunk_tokens, chunk_overlap=encoding.chunk_overlap),
        settings.micro_batch_tokens,
        # On a machine without a GPU the cores are better spent on the encoder.
        compute.n_workers if torch.cuda.is_available() else 0,
    )


def lengths_of(tokens: datasets.Dataset, rows: Sequence[int]) -> list[int]:
    """Tokens of each row."""
    ids = tokens.select_columns(["input_ids"]).with_format("arrow")[rows]["input_ids"]
    lengths: list[int] = pc.list_value_length(ids).to_pylist()
    return lengths


def cache_frozen_layers(
    encoder: DocumentEncoder, loader: BatchLoader, rows: Sequence[int], accelerator: Accelerator
) -> None:
    """Compute frozen layers once for all rows (every process for all of them: which it meets changes by epoch)."""
    batches = iterate_micro_batches(loader.tokens, rows, loader.settings, max_tokens=loader.micro_batch_tokens)
    dtype = torch.bfloat16 if accelerator.mixed_precision == "bf16" else torch.float32
    encoder.fill_cache(batches, len(rows), accelerator.device, dtype)
