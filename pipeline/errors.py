"""The one error type that the command line treats differently from a bug, and what may be said of a bug."""

from __future__ import annotations

import traceback


class UserError(ValueError):
    """Something a user can mend: a wrong setting, a missing or broken file, a folder in use.

    Its message says what is wrong, where, what was expected and what to do, and never contains text of a
    document. The command line prints it without a traceback and exits with status 2.
    """


def describe_bug(error: BaseException) -> str:
    """Say of an unexpected exception what it is and where it arose, without its message.

    Messages of libraries quote values, and a value may be a patient's text; types and places cannot.

    Returns:
        One line for each exception of the chain, the cause last: its type, then file:line in function of every frame,
        outermost first.

    Example:
        >>> try:
        ...     int("Mr. Miller")
        ... except ValueError as error:
        ...     print(describe_bug(error).split(":")[0])
        ValueError at <doctest pipeline.errors.describe_bug[0]>
    """
    lines = []
    chain: BaseException | None = error
    seen: set[int] = set()
    while chain is not None and id(chain) not in seen:
        seen.add(id(chain))
        frames = traceback.extract_tb(chain.__traceback__)
        places = " > ".join(f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in frames)
        lines.append(f"{type(chain).__name__} at {places or 'no place known'}")
        chain = chain.__cause__ or (None if chain.__suppress_context__ else chain.__context__)
    return "\n".join(lines)
