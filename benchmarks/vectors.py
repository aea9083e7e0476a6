"""Contrastive losses on vectors: a small MLP over features that stay as they are.

    python -m benchmarks.vectors --data FOLDER               # FOLDER has yeast_official_{train,val,test}.hdf5
    python -m benchmarks.vectors --data work/cmc2007         # documents, as an encoder that is not trained sees them
    python -m benchmarks.vectors --data FOLDER --seeds 1     # a quick look

Yeast are 2,417 genes with 103 numeric features and 14 classes, in the files that williamzhangsjtu/MulSupCon ships. Of a
work folder the features are the mean token states by the encoder that stage train_encoder left there.

Every loss gets the same search: two-stage (contrastive training, then a linear head with the whole network) with three
temperatures, and joint (binary cross-entropy plus weight x loss) with two temperatures and three weights. What is kept,
epoch included, is the best MAP on split val; thresholds are fitted there too. MAP is the mean over documents; label
MAP, which MulSupCon's authors call mAP, the mean over classes that occur in split test. Writes a table to the terminal,
to MLflow (settings, scores, the table as an artifact) and, with --output, as CSV.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import tempfile
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import torch
from scipy import sparse
from sklearn.metrics import average_precision_score
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.embeddings import embed
from pipeline.encoders.tokens import select_rows
from pipeline.evaluation.grid_results import Pooled, VariantResult, as_rows
from pipeline.evaluation.label_counts import label_matrix
from pipeline.evaluation.metrics import band_key, frequency_bands
from pipeline.evaluation.ranking import rank_scores
from pipeline.evaluation.shared_threshold import fit_global_threshold
from pipeline.evaluation.thresholds import apply_thresholds
from pipeline.experiment.mlflow_store import experiment_id, open_store
from pipeline.experiment.tracking import log_rows
from pipeline.icd.labels import LabelSpace
from pipeline.losses import build_contrastive_loss

# Name in the table -> arguments of build_contrastive_loss.
LOSSES: dict[str, dict[str, Any]] = {
    "all": {"name": "all"},
    "any": {"name": "any"},
    "mulsupcon": {"name": "mulsupcon"},
    "jaccard": {"name": "jaccard"},
    "sd (positives)": {"name": "sd"},
    "sd (weights)": {"name": "sd", "normalise": "weights"},
    "sd_idf": {"name": "sd_idf", "normalise": "weights"},
    "sd_mulsupcon": {"name": "sd_mulsupcon"},
    "sd_per_label": {"name": "sd_per_label"},
    "msc": {"name": "msc"},
    "sd_prototypes": {"name": "sd_prototypes"},
}
SPLITS = ("train", "val", "test")
TEMPERATURES = (0.1, 0.3, 1.0)
JOINT = tuple(itertools.product((0.1, 0.5), (0.03, 0.1, 0.3)))
WIDTH, PROJECTION, BATCH = 256, 64, 200
CONTRASTIVE_EPOCHS, CLASSIFIER_EPOCHS, PATIENCE = 120, 60, 10
N_RESAMPLES = 1000


@dataclass(frozen=True)
class Part:
    """One split: features (n, n_features) float32 standardized on train, labels (n, n_labels) bool."""

    features: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Setting:
    """What is searched: temperature, and the weight of the contrastive term; weight None is two-stage."""

    temperature: float
    weight: float | None


class Network(nn.Module):
    """Encoder of two layers with a projection and a classification head."""

    def __init__(self, n_features: int, n_labels: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(n_features, WIDTH), nn.ReLU(), nn.Dropout(0.2), nn.Linear(WIDTH, WIDTH), nn.ReLU()
        )
        self.projection = nn.Linear(WIDTH, PROJECTION)
        self.head = nn.Linear(WIDTH, n_labels)

    def project(self, embeddings: Tensor) -> Tensor:
        """L2-normalised projections, (n, 64)."""
        return nn.functional.normalize(self.projection(embeddings), dim=-1)


def read_yeast(folder: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Split, features and labels of the three files."""
    import h5py

    for split in SPLITS:
        with h5py.File(folder / f"yeast_official_{split}.hdf5") as file:
            yield split, file["feature"][:].astype(np.float32), file["target"][:].astype(bool)


def read_documents(folder: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Split, embeddings and labels of the documents of a work folder."""
    tokens = datasets.load_from_disk(str(folder / "tokens"))
    n_labels = len(LabelSpace.load(folder / "label_space.json"))
    for split in SPLITS:
        rows = [int(row) for row in select_rows(tokens, split)]
        labels = label_matrix(tokens.select(rows)["label_ids"], n_labels)
        yield split, embed(folder, tokens, rows), labels.toarray()


def load(folder: Path) -> dict[str, Part]:
    """Read one or the other, and bring every feature to mean 0 and deviation 1 on split train."""
    found = read_documents(folder) if (folder / "tokens").is_dir() else read_yeast(folder)
    raw = {split: (features, labels) for split, features, labels in found}
    mean, deviation = raw["train"][0].mean(0), raw["train"][0].std(0)
    deviation[deviation == 0] = 1  # MiniLM has a dimension that never moves
    return {
        split: Part(torch.from_numpy((features - mean) / deviation), torch.from_numpy(labels))
        for split, (features, labels) in raw.items()
    }


def batches(part: Part, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Random batches of one epoch."""
    order = torch.randperm(len(part.features), generator=generator)
    for rows in torch.tensor_split(order, -(-len(order) // BATCH)):
        yield part.features[rows], part.labels[rows]


def train(parts: dict[str, Part], loss: nn.Module | None, setting: Setting | None, seed: int) -> tuple[float, Network]:
    """Train with one setting; give the best MAP on split val and the network of that epoch."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    n_features, n_labels = parts["train"].features.shape[1], parts["train"].labels.shape[1]
    network = Network(n_features, n_labels)
    parameters = [*network.parameters(), *(loss.parameters() if loss else [])]
    if loss is not None and setting is not None and setting.weight is None:
        optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=1e-2)
        for _ in range(CONTRASTIVE_EPOCHS):
            for features, labels in batches(parts["train"], generator):
                value = loss(network.project(network.encoder(features)), labels)
                optimizer.zero_grad()
                value.backward()
                optimizer.step()
    weight = setting.weight if setting is not None and setting.weight is not None else 0.0
    optimizer = torch.optim.AdamW(parameters, lr=5e-4, weight_decay=1e-2)
    best, kept, since = -1.0, network, 0
    for _ in range(CLASSIFIER_EPOCHS):
        network.train()
        for features, labels in batches(parts["train"], generator):
            embeddings = network.encoder(features)
            value = nn.functional.binary_cross_entropy_with_logits(network.head(embeddings), labels.float())
            if loss is not None and weight:
                value = value + weight * loss(network.project(embeddings), labels)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        score = rank_scores(matrix(parts["val"].labels), probabilities(network, parts["val"]), ks=())["map"]
        if score > best:
            best, kept, since = score, copy.deepcopy(network), 0
        elif (since := since + 1) >= PATIENCE:
            break
    return best, kept


@torch.no_grad()
def probabilities(network: Network, part: Part) -> np.ndarray:
    """Probabilities (n, n_labels) float32."""
    network.eval()
    result: np.ndarray = network.head(network.encoder(part.features)).sigmoid().numpy()
    return result


def matrix(labels: Tensor) -> sparse.csr_array:
    """Multi-hot labels as the CSR matrix that metrics take."""
    return label_matrix([row.nonzero().flatten().tolist() for row in labels], labels.shape[1])


def score(result: VariantResult, network: Network, parts: dict[str, Part], choice: str) -> None:
    """Add a seed to a variant's result; the threshold is fitted on split val."""
    threshold = fit_global_threshold(matrix(parts["val"].labels), probabilities(network, parts["val"]))
    true, given = matrix(parts["test"].labels), probabilities(network, parts["test"])
    predicted = apply_thresholds(given, threshold)
    rows = [str(row) for row in range(true.shape[0])]
    pooled = Pooled(rows, rows, true, predicted, given)
    train_counts = parts["train"].labels.sum(dim=0).numpy()
    result.add_seed(pooled, [choice], train_counts=train_counts, n_resamples=N_RESAMPLES, seed=0)
    labels = parts["test"].labels.numpy()
    occurs = labels.any(axis=0)
    label_map = average_precision_score(labels[:, occurs], given[:, occurs], average="macro")
    result.scores[-1]["label_map"] = float(label_map)


def main() -> None:
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the three .hdf5 files, or a work folder")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds (default: 3)")
    parser.add_argument("--output", type=Path, help="CSV to write")
    parser.add_argument("--tracking-dir", type=Path, default=Path("mlruns"), help="of MLflow (default: mlruns)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    parts = load(arguments.data)
    n_labels = parts["train"].labels.shape[1]
    results = [
        VariantResult("none"),
        *(VariantResult(f"{name}, {how}") for name in LOSSES for how in ("two-stage", "joint")),
    ]
    by_name = {result.variant: result for result in results}
    settings = {
        "two-stage": [Setting(temperature, None) for temperature in TEMPERATURES],
        "joint": [Setting(*one) for one in JOINT],
    }
    jobs = list(itertools.product(range(arguments.seeds), LOSSES, settings))
    for seed in range(arguments.seeds):
        score(by_name["none"], train(parts, None, None, seed)[1], parts, "")
    for seed, name, how in tqdm(jobs, desc=arguments.data.name, unit="search", disable=None):
        tried = []
        for setting in settings[how]:
            torch.manual_seed(seed)
            loss = build_contrastive_loss(
                **LOSSES[name],
                temperature=setting.temperature,
                n_labels=n_labels,
                dim=PROJECTION,
            )
            tried.append((*train(parts, loss, setting, seed), setting))
        _, network, chosen = max(tried, key=lambda one: one[0])
        score(by_name[f"{name}, {how}"], network, parts, f"temperature {chosen.temperature}, weight {chosen.weight}")
    table = pd.DataFrame(as_rows(results, reference="none"))
    if arguments.output:
        table.to_csv(arguments.output, index=False)
    track(table, arguments.tracking_dir, {"data": arguments.data.name, "n_seeds": arguments.seeds})
    rows = table.to_dict("records")
    keys = [band_key(name) for name in frequency_bands([])]
    bands = [key for key in keys if rows[0][f"{key}/n_labels_present"]]
    names = ["micro-F1", "macro-F1", "MAP over documents", "MAP over labels"]
    names += [f"macro-F1, {key.removeprefix('train_count_').replace('_', '-')}" for key in bands]
    print(f"| loss | {' | '.join(names)} |\n|{'---|' * (len(names) + 1)}")
    for row in rows:
        print(markdown(row, bands))


def track(table: pd.DataFrame, tracking_dir: Path, settings: Mapping[str, Any]) -> str:
    """Log the table with its scores and settings as a run; gives the run's id."""
    client = open_store(tracking_dir)
    run = client.create_run(experiment_id(client, tracking_dir), run_name=f"vectors of {settings['data']}")
    run_id = str(run.info.run_id)
    for name, value in {**settings, "temperatures": TEMPERATURES, "joint": JOINT}.items():
        client.log_param(run_id, name, value)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "losses.csv"
        table.to_csv(path, index=False)
        client.log_artifact(run_id, str(path))
    variants = table["variant"].str.replace(r"[(),]", "", regex=True).str.replace(" ", "_")  # what MLflow takes
    log_rows(client, run_id, table.assign(variant=variants).to_dict("records"))
    client.set_terminated(run_id)
    return run_id


def markdown(row: Mapping[Hashable, Any], bands: Sequence[str]) -> str:
    """One line of the table in RESULTS.md, in percent; last the macro-F1 of labels by training documents."""
    cells = [str(row["variant"])]
    for name in ("micro_f1", "macro_f1", "map"):
        cell = f"{100 * row[name]:.1f} ± {100 * row.get(f'{name}_sd', 0):.1f}"
        if row["variant"] != "none":
            low, high = (100 * row[f"{name}_{end}"] for end in ("low", "high"))
            cell += f" ({low:+.1f} to {high:+.1f})"
        cells.append(cell)
    cells.append(f"{100 * row['label_map']:.1f}")
    cells += [f"{100 * row[f'{band}/macro_f1']:.1f}" for band in bands]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
