"""Time and memory of the contrastive kernel, forward and backward, as a Markdown table.

    python -m benchmarks.losses --sizes small     # seconds
    python -m benchmarks.losses --sizes full --write  # B to 4,096, L to 8,929, d to 768: some minutes

Beside the fused losses stand, in the same run and on the same batches:
- the floor: ``z zᵀ`` and its backward, what no contrastive loss can do without;
- expanded rows: MulSupCon written as its paper describes it, one row per anchor and label, dense labels;
- a double loop over pairs in Python, at small sizes only.

Labels follow a Zipf law, 5 per document at L = 50 and 15 at L = 8,929. Times are the least of several alternating
repeats; extra memory is the growth of the process's peak resident set (Linux only).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks import results
from pipeline.losses import ContrastiveLoss, SparseLabels

SIZES = {
    "small": [(b, n_labels, 128) for b in (64, 256) for n_labels in (50, 8929)],
    "full": [(b, n_labels, d) for b in (64, 256, 1024, 4096) for n_labels in (50, 8929) for d in (128, 768)],
}
FUSED_RULES = ("sd", "mulsupcon", "sd_per_label")
TEMPERATURE = 0.1
MAX_EXPANDED_ELEMENTS = 1e8  # rows x samples; at B = 4,096 and L = 8,929 it would need several GB
MAX_LOOP_DOCUMENTS = {"small": 64, "full": 256}


@dataclass(frozen=True)
class Batch:
    """Projections that want a gradient, and their labels in both forms."""

    projections: Tensor
    labels: SparseLabels

    @property
    def multi_hot(self) -> Tensor:
        """Dense labels, float, shape (n_documents, n_labels)."""
        dense = torch.zeros(self.labels.n_documents, self.labels.n_labels)
        dense[self.labels.rows, self.labels.indices] = 1
        return dense


def build_batch(n_documents: int, n_labels: int, dim: int) -> Batch:
    """Random projections, label sets without replacement from a Zipf law."""
    generator = torch.Generator().manual_seed(0)
    share = 1 / torch.arange(1, n_labels + 1)
    n_each = 5 if n_labels <= 50 else 15
    ids = torch.stack([torch.multinomial(share, n_each, generator=generator) for _ in range(n_documents)])
    projections = torch.randn(n_documents, dim, generator=generator).requires_grad_()
    return Batch(projections, SparseLabels.from_lists(ids.tolist(), n_labels))


def floor(batch: Batch) -> Callable[[], None]:
    """The similarities alone, with a gradient of ones."""
    ones = torch.ones(len(batch.projections), len(batch.projections))

    def run() -> None:
        z = torch.nn.functional.normalize(batch.projections, dim=1)
        (z @ z.T).backward(ones)

    return run


def fused(batch: Batch, rule: str) -> Callable[[], None]:
    """One of our losses, labels sparse."""
    loss = ContrastiveLoss(rule, temperature=TEMPERATURE)
    return lambda: loss(batch.projections, batch.labels).backward()


def expanded_rows(batch: Batch) -> Callable[[], None]:
    """MulSupCon with one row per anchor and label."""
    multi_hot = batch.multi_hot

    def run() -> None:
        z = torch.nn.functional.normalize(batch.projections, dim=1)
        is_self = torch.eye(len(z), dtype=torch.bool)
        anchor, label = multi_hot.nonzero(as_tuple=True)
        one_label = torch.nn.functional.one_hot(label, multi_hot.shape[1]).float()
        is_positive = (one_label @ multi_hot.T > 0) & ~is_self[anchor]
        scores = (z @ z.T / TEMPERATURE).masked_fill(is_self, -1e9)[anchor]
        n_positives = is_positive.sum(dim=1)
        per_row = -(scores.log_softmax(dim=1) * is_positive).sum(dim=1) / n_positives.clamp(min=1)
        (per_row.sum() / (n_positives > 0).sum().clamp(min=1)).backward()

    return run


def double_loop(batch: Batch) -> Callable[[], None]:
    """SD with a loop over anchors and one over samples."""
    offsets = batch.labels.offsets.tolist()
    sets = [set(batch.labels.indices[a:b].tolist()) for a, b in pairwise(offsets)]

    def run() -> None:
        z = torch.nn.functional.normalize(batch.projections, dim=1)
        losses = []
        for i, own in enumerate(sets):
            others = [p for p in range(len(sets)) if p != i]
            log_sum = torch.stack([z[i] @ z[p] / TEMPERATURE for p in others]).logsumexp(dim=0)
            terms = [
                len(own & sets[p]) / len(own) / (1 + len(sets[p] - own)) * (log_sum - z[i] @ z[p] / TEMPERATURE)
                for p in others
                if own & sets[p]
            ]
            losses += [torch.stack(terms).mean()] if terms else []
        torch.stack(losses).mean().backward()

    return run


def least_times(candidates: dict[str, Callable[[], None]], batch: Batch) -> dict[str, float]:
    """Least time of each in ms; repeats alternate, so that a busy moment hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for repeat in range(8):
        for name, run in candidates.items():
            if repeat >= 3 and sum(times[name]) > 4:
                continue
            batch.projections.grad = None
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
            if sum(times[name]) > 10:
                break
    return {name: min(all_times) * 1e3 for name, all_times in times.items()}


def extra_memory(run: Callable[[], None], batch: Batch) -> float | None:
    """Growth of the peak resident set in MB during one run, None where the system does not tell."""
    batch.projections.grad = None
    return results.growth_of_peak(run)


def measure(n_documents: int, n_labels: int, dim: int, max_loop: int) -> list[str]:
    """Cells of one row."""
    batch = build_batch(n_documents, n_labels, dim)
    candidates = {"floor": floor(batch)} | {rule: fused(batch, rule) for rule in FUSED_RULES}
    n_occurrences = len(batch.labels.indices)
    if n_occurrences * n_documents <= MAX_EXPANDED_ELEMENTS:
        candidates["expanded"] = expanded_rows(batch)
    if n_documents <= max_loop:
        candidates["loop"] = double_loop(batch)
    times = least_times(candidates, batch)
    memory = {name: extra_memory(candidates[name], batch) for name in ("floor", "sd", "expanded") if name in candidates}
    cells = [str(n_documents), f"{n_labels:,}", str(dim), f"{times['floor']:.2f}"]
    cells += [f"{times[rule]:.2f} ({times[rule] / times['floor']:.1f}×)" for rule in FUSED_RULES]
    cells += [f"{times[name]:,.1f}" if name in times else "–" for name in ("expanded", "loop")]
    found = [memory.get(name) for name in ("floor", "sd", "expanded")]
    return [*cells, *("–" if megabytes is None else f"{megabytes:.0f}" for megabytes in found)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Time and memory of the contrastive losses.")
    parser.add_argument("--sizes", choices=sorted(SIZES), default="small")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--write", action="store_true", help="append the table to benchmarks/RESULTS.md")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    where = results.machine(arguments.threads)
    print(where, flush=True)
    header = ["B", "L", "d", "floor", *FUSED_RULES, "expanded rows", "double loop"]
    header += ["MB floor", "MB sd", "MB expanded"]
    n_loop = MAX_LOOP_DOCUMENTS[arguments.sizes]
    rows = [measure(*size, n_loop) for size in tqdm(SIZES[arguments.sizes], disable=None)]
    remark = "Forward and backward, ms (in brackets: times the floor); extra memory in MB."
    parts = [remark, results.table(header, rows)]
    print("\n\n".join(parts))
    if arguments.write:
        results.keep(f"Contrastive losses, {arguments.sizes} sizes", results.command("losses"), where, parts)


if __name__ == "__main__":
    main()
