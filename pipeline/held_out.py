"""What a model says of split val, from parts that had not learned from it.

The lexical part of the model that is kept learns from train and val together, since every document with a rare code
counts. So what that model says of val now is no measure of anything: what is chosen or shown on val (how sure is sure
enough, calibration, the best of several settings) must rest on what was said before.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.ensemble import Coded
from pipeline.errors import UserError


def save_held_out(path: Path, document_ids: Sequence[str], coded: Coded) -> None:
    """Write probabilities of split val, by document.

    Args:
        path: new Parquet file.
        document_ids: of split val.
        coded: of the same documents, from parts that had not learned from them.
    """
    columns = {"document_id": pa.array(document_ids, type=pa.string()), "probabilities": _lists(coded.probabilities)}
    if coded.baseline is not None:
        columns["baseline"] = _lists(coded.baseline)
    pq.write_table(pa.table(columns), path, compression="zstd")


def _lists(values: np.ndarray) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1), type=pa.float32()), values.shape[1])


class HeldOutVal:
    """Probabilities of split val, to be put in the place of those of the kept model.

    Args:
        path: that :func:`save_held_out` wrote.
        n_labels: width of the label space.

    Raises:
        UserError: if it is of another label space.
    """

    def __init__(self, path: Path, n_labels: int) -> None:
        table = pq.read_table(path)
        self._rows = {name: row for row, name in enumerate(table["document_id"].to_pylist())}
        self._values = {
            name: np.asarray(pc.list_flatten(table[name])).reshape(len(table), -1)
            for name in ("probabilities", "baseline")
            if name in table.column_names
        }
        if len(table) and self._values["probabilities"].shape[1] != n_labels:
            raise UserError(f"{path}: it is of another label space; run the stage 'train_classifier' again.")

    def put_into(self, document_ids: Sequence[str], coded: Coded) -> Coded:
        """The same documents, those of split val as they were before the model learned from them."""
        here = [place for place, one in enumerate(document_ids) if one in self._rows]
        rows = [self._rows[document_ids[place]] for place in here]
        found = {"probabilities": coded.probabilities, "baseline": coded.baseline}
        for name, values in self._values.items():
            if rows and (now := found[name]) is not None:
                found[name] = now.copy()
                found[name][here] = values[rows]  # type: ignore[index]
        return Coded(found["probabilities"], found["baseline"])  # type: ignore[arg-type]
