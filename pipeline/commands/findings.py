"""What ``icd doctor`` finds."""

from __future__ import annotations

from typing import Literal, NamedTuple

State = Literal["ok", "warning", "wrong"]


class Finding(NamedTuple):
    """What was looked at and what was found.

    Attributes:
        state: ``wrong`` is what a run would stop at, ``warning`` what a user should know.
        what: was looked at.
        found: there.
        advice: what to do about it; empty where nothing is to be done or ``found`` says it.
    """

    state: State
    what: str
    found: str
    advice: str = ""
