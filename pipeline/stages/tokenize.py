"""Stage tokenize: documents.parquet, splits.parquet, label_space.json -> tokens/.

Run alone:
    python -m pipeline.stages.tokenize --config configs/demo.yaml
"""

from __future__ import annotations

import logging
import shutil

import numpy as np
import pyarrow.parquet as pq

from pipeline.encoders.pretrained import load_tokenizer
from pipeline.encoders.tokens import Tokenize, tokenize_documents
from pipeline.experiment.artifacts import need, writing
from pipeline.experiment.config import PipelineConfig
from pipeline.experiment.encoder_files import find_encoder
from pipeline.experiment.stage_tracking import StageRun
from pipeline.icd.labels import LabelSpace
from pipeline.stages import stage_main

logger = logging.getLogger(__name__)


def run(config: PipelineConfig, tracked: StageRun) -> None:
    """Turn the text of every document into tokens, with the encoder's own tokenizer."""
    experiment_dir = config.experiment_dir
    documents_path = need(experiment_dir, "documents.parquet")
    splits = pq.read_table(need(experiment_dir, "splits.parquet")).to_pandas()
    label_space = LabelSpace.load(need(experiment_dir, "label_space.json"))
    tokenizer = load_tokenizer(find_encoder(config.encoder.model, allow_downloads=config.allow_downloads))
    with writing(config, "tokenize") as output:
        cache_dir = output.dir / "cache"
        tokens = tokenize_documents(
            documents_path,
            dict(zip(splits["document_id"], splits["split"], strict=True)),
            label_space,
            Tokenize(tokenizer, config.tokens.max_tokens, config.tokens.context),
            cache_dir=cache_dir,
            n_workers=config.compute.n_workers,
        )
        tokens.save_to_disk(output.dir / "tokens")
        tokenizer.save_pretrained(output.dir / "tokens" / "tokenizer")
        lengths = np.array([len(ids) for ids in tokens["input_ids"]])
        counts = {
            "documents": len(tokens),
            "tokens": int(lengths.sum()),
            "tokens_cut": int(np.sum(tokens["n_tokens_cut"])),
        }
        output.facts |= counts
        shutil.rmtree(cache_dir)
    percentiles = dict(zip(("p50", "p90", "max"), np.percentile(lengths, [50, 90, 100]).astype(int), strict=True))
    logger.info(
        "%d documents, %d tokens; tokens a document: median %d, 90%% below %d, most %d",
        counts["documents"], counts["tokens"], *percentiles.values(),
    )  # fmt: skip
    if counts["tokens_cut"]:
        logger.warning("%d tokens beyond tokens.max_tokens were cut off", counts["tokens_cut"])
    tracked.log_metrics({f"n_{name}": n for name, n in counts.items()})
    tracked.log_metrics({f"tokens_a_document_{name}": float(n) for name, n in percentiles.items()})


if __name__ == "__main__":
    stage_main("tokenize", run)
