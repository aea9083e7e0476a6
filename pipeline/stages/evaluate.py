"""Stage evaluate: predictions.parquet, documents.parquet, ... -> metrics.json, report.html, codes.csv.

Run alone:
    python -m pipeline.stages.evaluate --config configs/demo.yaml
"""

from __future__ import annotations

import logging
from dataclasses import asdict

from pipeline.errors import UserError
from pipeline.evaluation.coded import load_baseline_split, load_coded_split, split_label_sets
from pipeline.evaluation.split_scores import compare_coders, find_label_groups, score
from pipeline.experiment.artifacts import need, writing
from pipeline.experiment.config import PipelineConfig
from pipeline.experiment.stage_tracking import StageRun
from pipeline.files import csv_cell, write_json
from pipeline.icd.labels import LabelSpace
from pipeline.reports.report import write_report
from pipeline.reports.report_data import compare_baseline, report_content, without_human
from pipeline.stages import stage_main

logger = logging.getLogger(__name__)


def run(config: PipelineConfig, tracked: StageRun) -> None:
    """Score the predictions of one split and write metrics and report."""
    experiment_dir, split = config.experiment_dir, config.evaluate.split
    label_space = LabelSpace.load(need(experiment_dir, "label_space.json"))
    coded = load_coded_split(experiment_dir, split, label_space)
    if coded is None:
        what = f"evaluate.split is {split!r}, but no document"
        if not split_label_sets(experiment_dir, split):
            raise UserError(f"{what} is in it; set split.{split} above 0, or evaluate.split to another split.")
        raise UserError(f"{what} of it was coded; run the stage 'predict' again with it in predict.splits.")
    with writing(config, "evaluate") as output:
        groups = find_label_groups(label_space, config.evaluate.label_groups)
        scores, intervals = score(
            coded,
            ks=config.evaluate.ks,
            n_resamples=config.evaluate.n_resamples,
            seed=config.seed,
            train_label_sets=split_label_sets(experiment_dir, "train"),
            label_groups=groups,
        )
        coders = compare_coders(experiment_dir, coded)
        other = load_baseline_split(experiment_dir, coded, split)
        baseline = None
        if other is not None:
            baseline = compare_baseline(
                coded,
                other,
                ks=config.evaluate.ks,
                n_resamples=config.evaluate.n_resamples,
                seed=config.seed,
                label_groups=groups,
            )
        content = report_content(
            experiment_dir,
            coded,
            experiment=config.experiment,
            split=split,
            scores=scores,
            intervals=intervals,
            coders=coders,
            baseline=baseline,
            target_precision=config.evaluate.target_precision,
            label_groups=list(groups),
            settings={"evaluate": config.evaluate.model_dump(mode="json")},
        )
        write_report(output.dir / "report.html", content)
        content.label_table.map(csv_cell).to_csv(output.dir / "codes.csv", index=False)
        write_json(
            output.dir / "metrics.json",
            {
                "split": split,
                "scores": scores,
                "intervals": intervals,
                "baseline": None if baseline is None else asdict(baseline),
                "without_human": without_human(content),
                "coders": None if coders is None else coders.to_dict("records"),
                "labels": content.label_table.to_dict("records"),
            },
        )
        output.facts |= {"documents": len(coded.document_ids), "split": split}
    logger.info("micro-F1 %.4f, macro-F1 %.4f, MAP %.4f", scores["micro_f1"], scores["macro_f1"], scores["map"])
    tracked.log_metrics({f"{split}/{name}": value for name, value in scores.items()})
    tracked.log_metrics({name: round(scores[name], 4) for name in _HEADLINE if name in scores}, also_parent=True)
    tracked.log_report(experiment_dir / "report.html")
    tracked.log_report(experiment_dir / "metrics.json")
    tracked.log_report(experiment_dir / "codes.csv")


_HEADLINE = ("micro_f1", "macro_f1", "map", "precision_at_5", "exact_match", "n_documents")


if __name__ == "__main__":
    stage_main("evaluate", run)
