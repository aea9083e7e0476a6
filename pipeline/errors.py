"""The one error type that the command line treats differently from a bug."""

from __future__ import annotations


class UserError(ValueError):
    """Something a user can mend: a wrong setting, a missing or broken file, a folder in use.

    Its message says what is wrong, where, what was expected and what to do, and never contains text of a
    document. The command line prints it without a traceback and exits with status 2.
    """
