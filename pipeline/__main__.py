"""The `icd` command: run an experiment, code new documents, look at runs."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from pipeline.commands.arguments import build_parser
from pipeline.errors import UserError, describe_bug
from pipeline.experiment.config import PipelineConfig
from pipeline.experiment.config_files import load_config

if TYPE_CHECKING:
    from pipeline.experiment.grid import Member

_USER_ERROR = 2
_INTERRUPTED, _TERMINATED = 130, 143  # as shells say it of SIGINT and SIGTERM
_CALLED = sys.argv[0]  # before Snakemake, which runs in this process, can change it
_HEADLINE = {"micro_f1": "micro-F1", "macro_f1": "macro-F1", "map": "MAP", "precision_at_5": "P@5"}


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and hand over; exit status 2 for a user's mistake, 1 for a bug, 130 for Ctrl-C."""
    commands = {
        "run": _run, "doctor": _doctor, "predict": _predict, "review": _review, "compare": _compare, "ui": _ui,
    }  # fmt: skip
    arguments = build_parser(commands).parse_args(argv)
    try:
        with contextlib.nullcontext() if arguments.function is _run else _unwinding_at_sigterm():
            return int(arguments.function(arguments))
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return _INTERRUPTED
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return _USER_ERROR
    except Exception as error:  # the last resort: its message may quote a document
        if os.environ.get("ICD_TRACEBACK") == "1":
            raise
        sys.stderr.write(
            f"a bug or a fault of the machine; ICD_TRACEBACK=1 shows the whole, which may quote documents\n"
            f"{describe_bug(error)}\n"
        )
        return 1


@contextlib.contextmanager
def _unwinding_at_sigterm() -> Iterator[None]:
    """Let SIGTERM end this process as an error does, so that temporary files go; Snakemake has its own way."""

    def end(*_: object) -> NoReturn:
        raise SystemExit(_TERMINATED)

    if threading.current_thread() is not threading.main_thread():  # which alone may set it
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _run(arguments: argparse.Namespace) -> int:
    from pipeline.commands import dag
    from pipeline.commands.executors import check_executor
    from pipeline.experiment import grid
    from pipeline.experiment.mlflow_store import check_store
    from pipeline.experiment.tracking import tracked_settings
    from pipeline.files import guarded_io, lock, warn_of_git

    config = load_config(arguments.config, arguments.set)
    if not arguments.dry_run:
        check_executor(arguments.profile)
    members = grid.expand(config)
    with guarded_io(config.experiment_dir):
        warn_of_git(config.experiment_dir / "documents", f"work_dir {config.work_dir}")
        for member in members:  # before anything runs
            dag.check_sources(member.config)
            if member.config.tracking.enabled:
                tracked_settings(member.config)  # refuses what must not be tracked
    if config.tracking.enabled and not arguments.dry_run:
        check_store(config.tracking.dir)
    with guarded_io(config.experiment_dir), lock(config.experiment_dir, "icd run"):
        dag.clear_after_kill(config)
        dag.clear_failures(config, members)
        snakemake_arguments = dag.snakemake_arguments(
            config,
            members,
            profile=arguments.profile,
            cores=arguments.cores,
            until=arguments.until,
            dry_run=arguments.dry_run,
        )
        # There, since Snakemake leaves a log where it starts.
        with dag.keeping_unfinished(config, members), contextlib.chdir(config.experiment_dir):
            status = _snakemake(snakemake_arguments)
    if status:
        return _report_failure(config, members)
    if not arguments.dry_run and arguments.until in (None, "evaluate"):
        if config.grid is None:
            _print_summary(config)
        elif arguments.until is None:
            _print_grid(config)
    return 0


def _doctor(arguments: argparse.Namespace) -> int:
    from pipeline.commands.doctor import examine, render
    from pipeline.files import guarded_io

    config = load_config(arguments.config, arguments.set)
    with guarded_io(config.experiment_dir):  # a raw folder that may not be read
        findings = list(examine(config, profile=arguments.profile))
    print(render(findings, width=shutil.get_terminal_size((100, 24)).columns))
    return _USER_ERROR if any(finding.state == "wrong" for finding in findings) else 0


def _snakemake(arguments: list[str]) -> int:
    """Run Snakemake in this process, so that one kill ends the head as a whole."""
    from snakemake.cli import main as snakemake_main

    try:
        snakemake_main(arguments)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def _report_failure(config: PipelineConfig, members: Sequence[Member]) -> int:
    from pipeline.commands import dag

    failures = dag.failures(config, members)
    for failure in failures:
        member = f"{failure['folder']} " if failure["folder"] else ""
        sys.stderr.write(f"error: {member}stage {failure['stage']}: {failure['message']}\n")
    if not failures:
        bugs = ", ".join(map(str, dag.tracebacks(config, members)))
        sys.stderr.write(
            f"error: a stage failed by a bug or a fault of the machine, see {bugs}.\n"
            if bugs
            else "error: the run ended early, by Ctrl-C, a kill or a lack of memory, unless "
            f"Snakemake above or {config.experiment_dir / 'logs'} says more. Run it again to go on; --dry-run shows "
            "what is left.\n"
        )
    return _USER_ERROR if failures else 1


def _print_grid(config: PipelineConfig) -> None:
    from pipeline.reports.grid_report import text_table

    print(f"\n{text_table(config.experiment_dir / 'grid.json')}")
    print(f"\ntable:     {_relative(config.experiment_dir) / 'grid.html'}")
    _print_ui(config)


def _print_summary(config: PipelineConfig) -> None:
    from pipeline.files import read_json

    experiment_dir = config.experiment_dir
    metrics = read_json(experiment_dir / "metrics.json")
    scores, intervals = metrics["scores"], metrics["intervals"]
    print(f"\n{config.experiment}: {int(scores['n_documents'])} documents of split {metrics['split']}")
    for name, title in _HEADLINE.items():
        if name in scores:
            low, high = intervals.get(name, (None, None))
            interval = f"   95% interval {low:.3f} to {high:.3f}" if low is not None else ""
            print(f"  {title:<10} {scores[name]:.3f}{interval}")
    if scores["n_true_outside_label_space"]:
        print(
            f"  {scores['n_true_outside_label_space']:.0f} given codes are none that the model can assign; counted as "
            f"missed, micro-F1 is {scores['micro_f1_all_given']:.3f}"
        )
    shown = _relative(experiment_dir)
    print(f"\nreport:    {shown / 'report.html'}")
    work = _relative(config.work_dir)  # which git ignores
    print(f"code more: {_called_as()} predict --model {shown / 'classifier'}", end=" ")
    print(f"--input {work / 'notes.csv'} --output {work / 'codes.csv'}")
    _print_ui(config)


def _print_ui(config: PipelineConfig) -> None:
    if config.tracking.enabled:
        where = "" if config.tracking.dir == Path("mlruns").absolute() else f" --tracking-dir {config.tracking.dir}"
        print(f"all runs:  {_called_as()} ui{where}")


def _called_as() -> Path:
    """This command as it can be typed again from here, whether or not its folder is on the PATH."""
    called = Path(_CALLED)
    return _relative(called) if called.name == "icd" else Path("icd")


def _relative(path: Path) -> Path:
    with contextlib.suppress(ValueError):
        return path.relative_to(Path.cwd())
    return path


def _predict(arguments: argparse.Namespace) -> int:
    from pipeline.coding.proposals import code_documents
    from pipeline.notes.document_files import Columns

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    n_documents, n_codes = code_documents(
        arguments.model,
        arguments.input,
        arguments.output,
        top_k=arguments.top_k,
        has_evidence=arguments.evidence,
        mixed_precision=arguments.mixed_precision,
        columns=Columns(arguments.id_column, arguments.text_column),
    )
    print(f"{n_documents} documents, {n_codes} codes: {arguments.output}")
    return 0


def _review(arguments: argparse.Namespace) -> int:
    from pipeline.notes.document_files import Columns
    from pipeline.reports.review import write_review

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    columns = Columns(arguments.id_column, arguments.text_column)
    path = write_review(
        arguments.predictions,
        arguments.notes,
        arguments.output,
        max_documents=arguments.max_documents,
        columns=columns,
    )
    print(f"review page: {_relative(path)}")
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    from pipeline.files import check_page_path
    from pipeline.reports import comparison as c

    if arguments.output is not None:
        check_page_path(arguments.output)
    dirs = [c.find_run(run, arguments.tracking_dir) for run in (arguments.run_a, arguments.run_b)]
    found = c.compare_runs(*dirs)
    print(f"A: {_relative(dirs[0])}\nB: {_relative(dirs[1])}")
    print(f"{found.n_documents} documents of split {found.split}, {found.n_labels} codes\n")
    print(f"{'':<20} {'A':>6} {'B':>6} {'A - B':>7}   95% interval         p")
    for row in c.score_rows(found):
        interval = f"{row['low']:+.3f} to {row['high']:+.3f}"
        print(f"{row['score']:<20} {row['a']:6.3f} {row['b']:6.3f} {row['difference']:+7.3f}   {interval}   ", end="")
        print(f"{row['p_value']:.3f}")
    print(f"\n{c.verdict(found)}\n{c.wins_reading(found)}")
    if arguments.output is not None:
        c.write_comparison(arguments.output, found)
        print(f"page: {arguments.output}")
    return 0


def _ui(arguments: argparse.Namespace) -> int:
    from pipeline.commands.page_server import serve

    serve(arguments.tracking_dir, arguments.port)
    return 0


if __name__ == "__main__":
    sys.exit(main())
