"""Where the raw tables of a data set lie, however it was unpacked."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import UserError

_SUFFIXES = (".csv.gz", ".csv")


def raw_file(raw: Path, name: str, *, folder: str = "") -> Path:
    """Where a raw table lies, or should lie.

    Looked for, without regard to case, are NAME.csv.gz and NAME.csv in the folder ``raw`` itself, in its
    sub-folder ``folder``, and up to two levels further down (data.raw may be the folder above several
    downloaded distributions).

    Args:
        raw: the folder that the user named.
        name: of the table, such as "diagnoses_icd".
        folder: the distribution's own sub-folder of it, such as "hosp".

    Returns:
        The file; if there is none, the path where the distribution has it.

    Raises:
        UserError: if several folders further down hold one, so that it is unclear which is meant.
    """
    for near in (raw, raw / folder):
        if found := _table_in(near, name):
            return found
    for pattern in ("*", "*/*"):
        folders = [one for base in sorted(raw.glob(pattern)) for one in dict.fromkeys((base, base / folder))]
        matches = list(dict.fromkeys(found for one in folders if (found := _table_in(one, name))))
        if len(matches) > 1:
            places = ", ".join(str(match) for match in matches)
            raise UserError(f"{raw}: several tables {name!r}: {places}; set data.raw to the folder meant.")
        if matches:
            return matches[0]
    return raw / folder / (name + _SUFFIXES[0])


def need_raw_file(raw: Path, name: str, *, folder: str = "") -> Path:
    """The file of a raw table, see :func:`raw_file`.

    Raises:
        UserError: if there is none; the message says which names were looked for.
    """
    path = raw_file(raw, name, folder=folder)
    if not path.is_file():
        names = " or ".join(name + suffix for suffix in _SUFFIXES)
        places = f"{raw} or its sub-folder {folder}/" if folder else f"{raw}"
        raise UserError(f"{names} not found in {places}; download it or set data.raw to the folder that has it.")
    return path


def _table_in(folder: Path, name: str) -> Path | None:
    if not folder.is_dir():
        return None
    here = {path.name.lower(): path for path in sorted(folder.iterdir()) if path.is_file()}
    return next((here[name + suffix] for suffix in _SUFFIXES if name + suffix in here), None)
