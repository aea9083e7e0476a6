"""What can be said on the command line of `icd`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

from pipeline.experiment.config import STAGE_SECTIONS

_HIGHEST_PORT = 65_535


def build_parser(commands_by_name: Mapping[str, Callable[[argparse.Namespace], int]]) -> argparse.ArgumentParser:
    """The parser of `icd`.

    Args:
        commands_by_name: what each command calls, with its arguments.
    """
    parser = argparse.ArgumentParser(prog="icd", description="Run an experiment, code new documents, look at runs.")
    commands = parser.add_subparsers(required=True, metavar="{run,doctor,predict,review,compare,ui}")
    run = commands.add_parser("run", help="run the stages of an experiment that are not up to date")
    _add_experiment(run)
    run.add_argument(
        "--cores", type=_whole_number(), help="CPU cores to use (default: all; jobs of a scheduler say theirs)"
    )
    run.add_argument(
        "--until",
        choices=list(STAGE_SECTIONS),
        metavar="STAGE",
        help="stop after this stage; members of a grid that wait for a choice are left",
    )
    run.add_argument("--dry-run", action="store_true", help="show what would run and why")
    run.set_defaults(function=commands_by_name["run"])
    doctor = commands.add_parser("doctor", help="check raw files, machine and settings before anything runs")
    _add_experiment(doctor)
    doctor.set_defaults(function=commands_by_name["doctor"])
    predict = commands.add_parser("predict", help="code new documents with a trained classifier")
    predict.add_argument("--model", type=Path, required=True, help="classifier folder, such as work/demo/classifier")
    predict.add_argument(
        "--input",
        required=True,
        help=".csv, .csv.gz, .jsonl or .parquet with columns document_id and text, a folder of .txt files, or - for "
        "standard input: JSON lines or the text of one note",
    )
    _add_columns(predict)
    predict.add_argument("--output", type=Path, required=True, help=".csv, .jsonl or .parquet")
    predict.add_argument(
        "--top-k", type=_whole_number(), help="the K most probable codes of each document, predicted or not"
    )
    predict.add_argument(
        "--evidence", action="store_true", help="give the spans each code rests on; about half as fast"
    )
    predict.add_argument(
        "--mixed-precision", choices=("no", "bf16", "fp16"),
        help="of the encoder; 'no' is float32 (default: what the model was trained in, where this machine has it)",
    )  # fmt: skip
    predict.set_defaults(function=commands_by_name["predict"])
    review = commands.add_parser("review", help="write a page on which coders accept or reject proposed codes")
    review.add_argument("predictions", type=Path, help="what `icd predict --evidence` or the stage predict wrote")
    review.add_argument("--notes", required=True, help="the documents that were coded, as for predict --input")
    _add_columns(review)
    review.add_argument(
        "--output", type=Path,
        help=".html, such as work/review.html; holds patient text (default: beside predictions in work/)",
    )  # fmt: skip
    review.add_argument("--max-documents", type=_whole_number(), default=200, help="the page's limit (default: 200)")
    review.set_defaults(function=commands_by_name["review"])
    compare = commands.add_parser("compare", help="say which of two finished runs is better, and how sure that is")
    for name in ("run_a", "run_b"):
        compare.add_argument(name, help="work folder of an experiment, such as work/demo, or an MLflow run id")
    compare.add_argument("--output", type=Path, metavar="FILE.html", help="write table, figure and codes to a page")
    _add_tracking_dir(compare)
    compare.set_defaults(function=commands_by_name["compare"])
    ui = commands.add_parser("ui", help="serve the MLflow page with all runs on this machine")
    ui.add_argument("--port", type=_whole_number(_HIGHEST_PORT), default=5000, help="port on 127.0.0.1 (default: 5000)")
    _add_tracking_dir(ui)
    ui.set_defaults(function=commands_by_name["ui"])
    return parser


def _whole_number(highest: int | None = None) -> Callable[[str], int]:
    """Read a whole number from 1 on."""
    wanted = "1 or more" if highest is None else f"1 to {highest}"

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = 0
        if number < 1 or (highest is not None and number > highest):
            raise argparse.ArgumentTypeError(f"must be {wanted}, got {text}")
        return number

    return read


def _add_experiment(command: argparse.ArgumentParser) -> None:
    command.add_argument("config", type=Path, help="YAML file of the experiment")
    command.add_argument("--set", action="append", default=[], metavar="section.key=value", help="override a setting")
    command.add_argument(
        "--profile", default="local",
        help="where stages run: local (default), slurm, or a folder of your own with a config.yaml of Snakemake",
    )  # fmt: skip


def _add_tracking_dir(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--tracking-dir", type=Path, default=Path("mlruns"), metavar="DIR",
        help="tracking.dir of the runs (default: mlruns)",
    )  # fmt: skip


def _add_columns(command: argparse.ArgumentParser) -> None:
    for option, default, held in (("--id-column", "document_id", "ids"), ("--text-column", "text", "texts")):
        said = f"column of a table, or key of JSON lines, with the {held} of documents (default: {default})"
        command.add_argument(option, default=default, metavar="NAME", help=said)
