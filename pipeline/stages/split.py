"""Stage split: documents.parquet -> splits.parquet, label_space.json.

Run alone:
    python -m pipeline.stages.split --config configs/demo.yaml
"""

from __future__ import annotations

import logging

import pyarrow.parquet as pq

from pipeline.artifacts import need, read_json, writing
from pipeline.config import PipelineConfig
from pipeline.labels import LabelSpace
from pipeline.splits import SPLITS, assign_splits, check_given_splits
from pipeline.stages import stage_main
from pipeline.tracking import StageRun

logger = logging.getLogger(__name__)


def run(config: PipelineConfig, tracked: StageRun) -> None:
    """Divide documents by patient and fit the label space on split train."""
    columns = ["document_id", "patient_id", "labels", "given_split"]
    documents = pq.read_table(need(config.experiment_dir, "documents.parquet"), columns=columns).to_pandas()
    if config.split.use_given and documents["given_split"].notna().any():
        splits = check_given_splits(documents)
        logger.info(
            "the split that came with the data is used; %d documents are in none",
            len(documents) - len(splits),
        )
    else:
        split = assign_splits(
            documents["patient_id"].tolist(), val=config.split.val, test=config.split.test, seed=config.split.seed
        )
        splits = documents[["document_id"]].assign(split=split)
    with_split = documents.merge(splits, on="document_id")
    train = with_split["split"] == "train"
    label_space = LabelSpace.fit(
        with_split["labels"][train],
        level=config.label_space.level,
        min_documents=config.label_space.min_documents,
        top_k=config.label_space.top_k,
        counted_label_sets=with_split["labels"] if config.label_space.count_over == "all" else None,
        titles=read_json(need(config.experiment_dir, "titles.json")),
    )
    with writing(config, "split") as output:
        splits.to_parquet(output.dir / "splits.parquet", index=False)
        label_space.save(output.dir / "label_space.json")
        counts = {name: int((splits["split"] == name).sum()) for name in SPLITS}
        outside = sum(label_space.encode(labels)[1] for labels in with_split["labels"][with_split["split"] == "test"])
        output.facts |= {"documents": counts, "labels": len(label_space), "test_labels_outside": outside}
    logger.info("documents: %s; %d labels", ", ".join(f"{name} {n}" for name, n in counts.items()), len(label_space))
    if outside:
        logger.warning("%d label occurrences of split test lie outside the label space", outside)
    tracked.log_metrics({f"n_documents_{name}": n for name, n in counts.items()} | {"n_labels": len(label_space)})


if __name__ == "__main__":
    stage_main("split", run)
