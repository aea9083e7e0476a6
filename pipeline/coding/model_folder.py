"""The description in the folder of a trained model: classifier.json, and whether the folder is what it says."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.files import read_json, sha256_of

FORMAT_VERSION = 6
_PLAIN_NAME = re.compile(r"\w[\w.-]*")


def digest_of(description: dict[str, Any]) -> str:
    """Digest of what classifier.json says beside it."""
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()


def checked_description(folder: Path) -> dict[str, Any]:
    """What classifier.json says, with every part that it names found as it was written.

    Raises:
        UserError: if the folder is incomplete, changed since, or of another format version.
    """
    path = folder / "classifier.json"
    if not path.exists():
        inner = folder / "classifier"
        hint = (
            f"did you mean {inner}?"
            if (inner / path.name).exists()
            else "expected the folder that 'train_classifier' wrote."
        )
        raise UserError(f"{folder}: no classifier.json; {hint}")
    description: Any = read_json(path)
    version = description.get("format_version") if isinstance(description, dict) else None
    if version != FORMAT_VERSION:
        raise UserError(
            f"{folder}: format version {version}, this program reads {FORMAT_VERSION}; "
            "use the program version that trained it, or train it again."
        )
    stated = {name: value for name, value in description.items() if name != "sha256_of_this"}
    if description.get("sha256_of_this") != digest_of(stated):
        raise UserError(f"{path} is not what training wrote (its digest differs); copy the folder again.")
    digests = description.get("sha256")
    if (
        not isinstance(digests, dict)
        or not {"model", "settings"} <= description.keys()
        or "label_space.json" not in digests
    ):
        raise UserError(f"{path} is damaged: it lacks settings or digests; copy the folder again.")
    if not all(_PLAIN_NAME.fullmatch(name) for name in digests):
        raise UserError(f"{path} names files outside the folder; take the folder that training wrote.")
    for name, digest in digests.items():
        if not (folder / name).exists():
            raise UserError(f"{folder}: {name} is missing; copy the whole folder.")
        if sha256_of(folder / name) != digest:
            raise UserError(f"{folder}: {name} is not what training wrote (its digest differs); copy the folder again.")
    checked: dict[str, Any] = description
    return checked
