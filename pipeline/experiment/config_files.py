"""Reading an experiment file: YAML, overrides, and messages that name the key and what was expected.

Unknown keys are refused with the nearest known name; all problems are told at once.
"""

from __future__ import annotations

import contextlib
import difflib
import re
import typing
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from pipeline.errors import UserError
from pipeline.experiment.config import PipelineConfig
from pipeline.experiment.settings import Section

_NAME = re.compile(r"[\w.-]{1,80}")

SectionType = TypeVar("SectionType", bound="Section")


def load_config(path: Path, overrides: Sequence[str] = ()) -> PipelineConfig:
    """Read an experiment file and apply ``--set`` overrides.

    Args:
        path: a YAML file. Relative paths in it and in overrides are taken from the current folder.
        overrides: ``section.key=value`` each, the value in YAML.

    Raises:
        UserError: naming the file, the key and the expected value, all problems at once.
    """
    try:
        raw = _Loader(path.read_text(encoding="utf-8")).get_single_data()
    except FileNotFoundError:
        raise UserError(f"{path}: no such config file; the shipped ones lie in configs/.") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8; save it as UTF-8.") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error}.") from None
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        raise UserError(f"{path}{line}: not valid YAML: {getattr(error, 'problem', error)}.") from None
    except ValueError as error:  # of what looks like a date and is none
        raise UserError(f"{path}: not valid YAML: {error}; put a value that is no date in quotes.") from None
    if not isinstance(raw, dict):
        raise UserError(f"{path}: expected 'section:' entries at the top level, found {type(raw).__name__}.")
    if raw and not raw.keys() & PipelineConfig.model_fields.keys():  # perhaps a note: nothing of it is told
        raise UserError(
            f"{path}: not a config: none of its {len(raw)} entries is a setting; the shipped ones lie in configs/."
        )
    for override in overrides:
        _apply_override(raw, override)
    return validate_config(raw, source=f"{path} and --set" if overrides else str(path))


class _Loader(yaml.SafeLoader):
    """Refuses a key that comes twice in a mapping, of which YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a name", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{_shown(key.value)} comes twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def validate_config(raw: Mapping[str, Any], *, source: str) -> PipelineConfig:
    """Check a nested dict of settings; ``source`` names it in messages.

    Raises:
        UserError: with one line per problem.
    """
    return validate_section(PipelineConfig, raw, source=source)


def validate_section(model: type[SectionType], raw: Mapping[str, Any], *, source: str) -> SectionType:
    """Check settings against a section's model.

    Raises:
        UserError: with one line per problem.
    """
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        lines = [_problem(model, item) for item in error.errors()]
        raise UserError("\n".join([f"{source}:", *(f"  {line}" for line in lines)])) from None


def _apply_override(raw: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise UserError(f"--set {override}: expected section.key=value, for example --set data.raw=PATH.")
    read: Any = value
    with contextlib.suppress(yaml.YAMLError, ValueError):  # the latter of what looks like a date and is none
        read = yaml.safe_load(value)
    put_setting(raw, key, read, source=f"--set {override}")


def put_setting(raw: dict[str, Any], key: str, value: Any, *, source: str) -> None:
    """Put a value at 'section.key' into nested settings; ``source`` names it in messages.

    Raises:
        UserError: if something on the way is a single setting.
    """
    *parents, last = key.split(".")
    node = raw
    for name in parents:
        if node.get(name) is None:
            node[name] = {}
        node = node[name]
        if not isinstance(node, dict):
            raise UserError(f"{source}: {name!r} is a single setting, not a section.")
    node[last] = value


def _problem(model: type[Section], item: Any) -> str:
    """One line for one pydantic error."""
    *parents, last = item["loc"] or ("",)
    where = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        known = _known_keys(model, parents)
        near = difflib.get_close_matches(str(last), known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}."
        return f"{where if _NAME.fullmatch(where) else _shown(last)}: unknown key; {hint}"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "missing":
        return f"{where}: missing; it must be given"
    if item["type"] == "model_type":
        return f"{where}: expected a section with settings of its own (got {item['input']!r})"
    if item["type"] == "string_type" and not isinstance(item["input"], list | dict | None):
        message = "expected text; put it in quotes"
    return f"{where}: {message} (got {item['input']!r})" if where else message


def _shown(key: object) -> str:
    """A key for a message, unless it may be text of a note."""
    return repr(key) if _NAME.fullmatch(str(key)) else "an entry that is no name"


def _known_keys(model: type[Section], parents: Sequence[int | str]) -> list[str]:
    for name in parents:
        annotation = model.model_fields[str(name)].annotation if str(name) in model.model_fields else None
        candidates = [annotation, *typing.get_args(annotation)]
        inner = [one for one in candidates if isinstance(one, type) and issubclass(one, Section)]
        if not inner:
            return []
        model = inner[0]
    return sorted(model.model_fields)
