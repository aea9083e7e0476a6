"""Whether codes went through a number on their way here."""

from __future__ import annotations

from pathlib import Path

from pipeline.codes import CodeSystem
from pipeline.errors import UserError

_MANY_CODES = 5000  # of MIMIC's ICD-9 codes, one in twenty and more begins with 0


def check_leading_zeros(path: Path, system: CodeSystem, n_codes: int, *, has_zeros: bool) -> None:
    """Refuse many codes of ICD-9 without a leading zero.

    Raises:
        UserError: if they must have gone through a number.
    """
    if system in ("icd9cm", "icd9pcs") and n_codes >= _MANY_CODES and not has_zeros:
        raise UserError(
            f"{path}: none of its {n_codes:,} {system} codes begins with 0, so the column went through a number "
            "and codes are wrong (0117 and 117 are two procedures); download the file again, or export it as text."
        )
