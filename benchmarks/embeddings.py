"""Draw what contrastive training did to an encoder: documents of split test, coloured by relation to one anchor.

    python -m benchmarks.embeddings work/hoc_losses/members/none_seed-0 \
        work/hoc_losses/members/sd_temperature-0.3_seed-0 --output embeddings.png

One panel a work folder, in which stage train_encoder has run; without --anchor, the anchor is the document that has
most of the four relations. Principal components of the mean token states as train_encoder left them. For every panel
the mean cosine to the anchor is printed by relation, since two dimensions show only a part. No text is read.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from numpy.typing import NDArray
from scipy import sparse
from sklearn.decomposition import PCA

from pipeline.encoders.micro_batches import chunk_settings, iterate_micro_batches
from pipeline.encoders.pretrained import load_encoder, load_tokenizer
from pipeline.encoders.tokens import select_rows
from pipeline.evaluation.label_counts import label_matrix
from pipeline.experiment.config import PipelineConfig
from pipeline.files import read_json
from pipeline.icd.labels import LabelSpace
from pipeline.reports.drawing import BLUE, GRAY, GREEN, ORANGE, VERMILION, drawing

# Relations of losses.md, R1 to R5, in the order in which they are drawn: what matters most on top.
RELATIONS = {1: "disjoint", 3: "overlapping", 5: "anchor's and more", 4: "part of anchor's", 2: "equal"}
COLORS = {1: GRAY, 3: BLUE, 5: GREEN, 4: ORANGE, 2: VERMILION}


def relations_to(anchor: int, labels: sparse.csr_array) -> NDArray[np.int64]:
    """Relation R1 to R5 of every document's label set to the anchor's, (n_documents,)."""
    sets = labels.astype(np.int64)
    n_shared = np.asarray((sets @ sets[[anchor]].T).todense()).reshape(-1)
    n_own = np.asarray(sets.sum(axis=1)).reshape(-1)
    is_inside, is_around = n_shared == n_own, n_shared == n_own[anchor]
    return np.select([n_shared == 0, is_inside & is_around, is_inside, is_around], [1, 2, 4, 5], 3)


def best_anchor(labels: sparse.csr_array) -> int:
    """The document whose rarest relation among R2 to R5 is the most frequent."""
    of_each = [relations_to(row, labels) for row in range(labels.shape[0])]
    return int(np.argmax([np.bincount(one, minlength=6)[2:].min() for one in of_each]))


@torch.no_grad()
def embed(folder: Path, tokens: datasets.Dataset, rows: Sequence[int]) -> NDArray[np.float32]:
    """Mean token state of documents by the encoder of a work folder, each of length 1, (n_documents, dim)."""
    encoding = PipelineConfig.model_validate(read_json(folder / "config.json")).encoding
    tokenizer = load_tokenizer(folder / "tokens" / "tokenizer")
    encoder = load_encoder(folder / "encoder", chunk_tokens=encoding.chunk_tokens).eval()
    settings = chunk_settings(tokenizer, chunk_tokens=encoding.chunk_tokens, chunk_overlap=encoding.chunk_overlap)
    result = np.empty((len(rows), encoder.dim), dtype=np.float32)
    place = {row: index for index, row in enumerate(rows)}
    for batch in iterate_micro_batches(tokens, rows, settings, max_tokens=8192):
        result[[place[int(row)] for row in batch.rows]] = encoder(batch).pooled("mean").float().numpy()
    result /= np.linalg.norm(result, axis=1, keepdims=True)
    return result


def draw(axes: Any, points: NDArray[np.float64], relations: NDArray[np.int64], anchor: int, title: str) -> None:
    """One panel."""
    for relation, name in RELATIONS.items():
        inside = (relations == relation) & (np.arange(len(relations)) != anchor)
        size = 4 if relation == 1 else 14
        axes.scatter(*points[inside].T, s=size, color=COLORS[relation], label=f"{name} ({inside.sum()})", linewidths=0)
    axes.scatter(*points[anchor], s=90, marker="*", color="black", label="anchor")
    axes.set(title=title, xticks=[], yticks=[])


def main() -> None:
    """Draw the picture and print mean cosines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="work folders of experiments on the same documents")
    parser.add_argument("--anchor", help="document id")
    parser.add_argument("--output", type=Path, default=Path("embeddings.png"))
    arguments = parser.parse_args()
    tokens = datasets.load_from_disk(str(arguments.folders[0] / "tokens"))
    rows = [int(row) for row in select_rows(tokens, "test")]
    chosen = tokens.select(rows)
    n_labels = len(LabelSpace.load(arguments.folders[0] / "label_space.json"))
    labels = label_matrix(chosen["label_ids"], n_labels)
    anchor = list(chosen["document_id"]).index(arguments.anchor) if arguments.anchor else best_anchor(labels)
    relations = relations_to(anchor, labels)
    with drawing(4.2 * len(arguments.folders), 4.6) as figure:
        for axes, folder in zip(
            figure.subplots(1, len(arguments.folders), squeeze=False)[0], arguments.folders, strict=True
        ):
            embeddings = embed(folder, tokens, rows)
            draw(axes, PCA(2, random_state=0).fit_transform(embeddings), relations, anchor, folder.name)
            cosines = embeddings @ embeddings[anchor]
            means = (f"{name} {cosines[relations == relation].mean():.3f}" for relation, name in RELATIONS.items())
            print(f"{folder.name}: mean cosine to the anchor: {', '.join(means)}")
        handles, names = axes.get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=len(names), frameon=False)
        FigureCanvasAgg(figure).print_figure(str(arguments.output), format="png")


if __name__ == "__main__":
    main()
