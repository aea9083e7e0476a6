"""Every contrastive loss as its definition reads, in slow loops over sets."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

N_LABELS = 6


class Samples:
    """Vectors and label sets of a batch; anchors are the first ``n_anchors``.

    ``factors`` are what samples count in the denominator (1 but for MSC).
    """

    def __init__(
        self,
        vectors: Tensor,
        sets: list[set[int]],
        n_anchors: int,
        *,
        temperature: float,
        groups: list[int] | None = None,
        factors: list[float] | None = None,
    ) -> None:
        self.sets, self.n_anchors = sets, n_anchors
        self.groups = list(range(len(sets))) if groups is None else groups
        self.factors = [1.0] * len(sets) if factors is None else factors
        unit = vectors / vectors.norm(dim=1, keepdim=True)
        self.similarities = unit @ unit.T / temperature
        self.known: dict[tuple[int, int], Tensor] = {}

    def others(self, anchor: int) -> list[int]:
        """A(i): all samples outside the anchor's group (by default only itself)."""
        return [p for p in range(len(self.sets)) if self.groups[p] != self.groups[anchor]]

    def log_p(self, anchor: int, sample: int) -> Tensor:
        """Log of e^s_ip over the sum of factor_a e^s_ia in A(i)."""
        if (anchor, sample) not in self.known:
            exponentials = [self.factors[a] * self.similarities[anchor, a].exp() for a in self.others(anchor)]
            log_sum = torch.stack(exponentials).sum().log()
            self.known |= {(anchor, p): self.similarities[anchor, p] - log_sum for p in self.others(anchor)}
        return self.known[anchor, sample]


def k_of(anchor: set[int], sample: set[int]) -> float:
    """SD's K = K^s K^d of two label sets."""
    if not anchor & sample:
        return 0.0
    return len(anchor & sample) / len(anchor) / (1 + len(sample - anchor))


def k_dissimilarity(anchor: set[int], sample: set[int]) -> float:
    return 1 / (1 + len(sample - anchor))


def jaccard(anchor: set[int], sample: set[int]) -> float:
    return len(anchor & sample) / len(anchor | sample) if anchor | sample else 0.0


SET_WEIGHTS: dict[str, tuple[Callable[[set[int], set[int]], float], str]] = {
    "all": (lambda s, t: float(s == t and bool(s)), "positives"),
    "scl": (lambda s, t: float(s == t and bool(s)), "positives"),
    "any": (lambda s, t: float(bool(s & t)), "positives"),
    "jaccard": (jaccard, "weights"),
    "overlap": (lambda s, t: float(len(s & t)), "weights"),
    "jscl": (jaccard, "positives"),
    "sd": (k_of, ""),
    "sd_similarity": (lambda s, t: len(s & t) / max(len(s), 1), ""),
    "sd_dissimilarity": (lambda s, t: k_dissimilarity(s, t) if s & t else 0.0, ""),
    "sd_symmetric": (lambda s, t: (k_of(s, t) + k_of(t, s)) / 2, ""),
}


def mean(values: list[Tensor]) -> Tensor | float:
    return torch.stack(values).mean() if values else 0.0


def loss_from_set_weights(batch: Samples, name: str, normalise: str) -> Tensor | float:
    """Losses whose weight depends on the two label sets alone."""
    weigh, fixed = SET_WEIGHTS[name]
    losses = []
    for i in range(batch.n_anchors):
        weights = {p: weigh(batch.sets[i], batch.sets[p]) for p in batch.others(i)}
        positives = {p: w for p, w in weights.items() if w > 0}
        if positives:
            divisor = len(positives) if (fixed or normalise) == "positives" else sum(positives.values())
            losses.append(-torch.stack([w * batch.log_p(i, p) for p, w in positives.items()]).sum() / divisor)
    return mean(losses)


def carriers(batch: Samples, anchor: int, label: int) -> list[int]:
    return [p for p in batch.others(anchor) if label in batch.sets[p]]


def label_rows(batch: Samples) -> list[tuple[int, int, list[int]]]:
    """(anchor, label, other carriers) of every label of every anchor that another sample carries."""
    rows = [(i, label, carriers(batch, i, label)) for i in range(batch.n_anchors) for label in batch.sets[i]]
    return [row for row in rows if row[2]]


def mulsupcon(batch: Samples) -> Tensor | float:
    return mean([-torch.stack([batch.log_p(i, p) for p in own]).mean() for i, _, own in label_rows(batch)])


def slcl(batch: Samples) -> Tensor | float:
    by_label: dict[int, list[Tensor]] = {}
    for i, label, own in label_rows(batch):
        by_label.setdefault(label, []).append(-torch.stack([batch.log_p(i, p) for p in own]).mean())
    return mean([torch.stack(losses).mean() for losses in by_label.values()])


def sd_idf(batch: Samples, normalise: str) -> Tensor | float:
    losses = []
    for i in range(batch.n_anchors):
        rarity = {label: 1 / len(own) for anchor, label, own in label_rows(batch) if anchor == i}
        weights = {
            p: sum(rarity.get(label, 0) for label in batch.sets[i] & batch.sets[p])
            / sum(rarity.values())
            * k_dissimilarity(batch.sets[i], batch.sets[p])
            for p in batch.others(i)
            if batch.sets[i] & batch.sets[p]
        }
        if weights:
            divisor = len(weights) if normalise == "positives" else sum(weights.values())
            losses.append(-torch.stack([w * batch.log_p(i, p) for p, w in weights.items()]).sum() / divisor)
    return mean(losses)


def sd_mulsupcon(batch: Samples, normalise: str) -> Tensor | float:
    rows = label_rows(batch)
    weights = [(i, p, k_dissimilarity(batch.sets[i], batch.sets[p]) / len(own)) for i, _, own in rows for p in own]
    divisor = len(rows) if normalise == "positives" else sum(w for _, _, w in weights)
    if not rows:
        return 0.0
    return -torch.stack([w * batch.log_p(i, p) for i, p, w in weights]).sum() / divisor


def sd_per_label(batch: Samples) -> Tensor | float:
    losses = []
    for i, _, own in label_rows(batch):
        weights = [k_of(batch.sets[i], batch.sets[p]) for p in own]
        pulls = [w * batch.log_p(i, p) for p, w in zip(own, weights, strict=True)]
        losses.append(-torch.stack(pulls).sum() / sum(weights))
    return mean(losses)


def msc(batch: Samples, prototypes: range, alpha: float) -> Tensor | float:
    """Audibert et al.: rows over labels, prototypes weigh 1, documents alpha / union."""
    losses = []
    for i in range(batch.n_anchors):
        own_set, terms = batch.sets[i], []
        for label in own_set:
            pull = {
                p: 1.0 if p in prototypes else alpha / len(own_set | batch.sets[p]) for p in carriers(batch, i, label)
            }
            divisor = sum(pull.values())
            terms += [-weight / divisor * batch.log_p(i, p) for p, weight in pull.items()]
        if terms:
            losses.append(torch.stack(terms).sum() / len(own_set))
    return mean(losses)


def by_definition(batch: Samples, name: str, normalise: str = "positives") -> Tensor | float:
    own = {"mulsupcon": mulsupcon, "slcl": slcl, "sd_per_label": sd_per_label}
    choice = {"sd_idf": sd_idf, "sd_mulsupcon": sd_mulsupcon}
    if name in own:
        return own[name](batch)
    return choice[name](batch, normalise) if name in choice else loss_from_set_weights(batch, name, normalise)
