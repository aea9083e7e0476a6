"""What the documentation shows works as it is written."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from pipeline.__main__ import main
from pipeline.commands.arguments import build_parser
from pipeline.experiment.config_files import load_config

ROOT = Path(__file__).parents[1]
COMMANDS = ("run", "doctor", "predict", "review", "compare", "ui")
DOCS = ("docs/cluster.md", "docs/losses.md", "docs/evidence.md")
PAGES = ("README.md", "data_recipes/README.md", *DOCS, "benchmarks/RESULTS.md")


def commands() -> list[tuple[str, str]]:
    """Commands in code blocks and in backticks that begin with icd, make or python -m, with their page."""
    found = []
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        for line in re.findall(r"^((?:\.venv/bin/)?(?:icd|make|python -m) .*)$", text, re.MULTILINE):
            found.append((page, re.sub(r"\s+#.*", "", line)))
        quoted = re.findall(r"`((?:icd|make|python -m)\s[^`]+)`", text)
        found += [(page, " ".join(command.split())) for command in quoted]
    return found


@pytest.mark.parametrize(("page", "command"), commands())
def test_every_command_names_a_config_a_module_or_a_target_that_exists(page: str, command: str) -> None:
    words = shlex.split(re.sub(r"\[[^\]]*\]|\.\.\.|\|\S*", "", command))
    if words[0].endswith("icd") and ((words[1] in ("run", "doctor") and len(words) > 2) or "--model" in words):
        arguments = build_parser(dict.fromkeys(COMMANDS, print)).parse_args(words[1:])
        if words[1] == "run" and words[2].startswith("configs/"):
            load_config(ROOT / arguments.config, arguments.set)
    for word in words:
        if word.startswith("configs/"):
            assert (ROOT / word).exists(), command
    if words[0] == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert words[1] in targets, command
    if words[:2] == ["python", "-m"] and "STAGE" not in words[2]:
        assert (ROOT / (words[2].replace(".", "/") + ".py")).exists(), command


def test_the_documentation_has_the_two_commands_of_a_fresh_machine() -> None:
    shown = {command for page, command in commands() if page == "README.md"}
    assert {"make run", "make test", "make ui"} <= shown


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in COMMANDS)])
def test_every_command_explains_itself(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 0
    assert "usage: icd" in capsys.readouterr().out


def test_links_in_the_documentation_lead_somewhere() -> None:
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
            assert ((ROOT / page).parent / target).exists(), f"{page}: {target}"


def test_no_data_and_no_weights_are_tracked() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    suffixes = (".csv.gz", ".parquet", ".arrow", ".feather", ".safetensors", ".db", ".pt", ".pkl", ".bin")
    assert [name for name in listed.stdout.splitlines() if name.endswith(suffixes)] == []


def test_notes_and_codes_of_patients_are_ignored_by_git_where_users_put_them() -> None:
    suffixes = ("csv", "jsonl", "parquet")
    names = [f"{name}.{suffix}" for name in ("notes", ".x1.codes", "work/codes") for suffix in suffixes]
    asked = subprocess.run(
        ["git", "check-ignore", "--no-index", *names], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if asked.returncode == 128:
        pytest.skip("not a git checkout")
    assert asked.stdout.split() == names


def test_review_pages_of_the_documentation_go_where_git_ignores_them() -> None:
    """They hold patient text, and `icd review` refuses another place in a checkout."""
    outputs = re.findall(r"icd review .*--output (\S+\.html)", "\n".join(command for _, command in commands()))
    assert outputs
    for output in outputs:
        asked = subprocess.run(["git", "check-ignore", "--quiet", "--no-index", output], cwd=ROOT, check=False)
        if asked.returncode == 128:
            pytest.skip("not a git checkout")
        assert asked.returncode == 0, output
