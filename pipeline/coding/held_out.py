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
from numpy.typing import NDArray

from pipeline.coding.ensemble import Coded
from pipeline.errors import UserError


def save_held_out(path: Path, document_ids: Sequence[str], coded: Coded) -> None:
    """Write probabilities of split val, by document.

    Args:
        path: new Parquet file.
        document_ids: of split val.
        coded: of the same documents, from parts that had not learned from them.
    """
    columns = {
        "document_id": pa.array(document_ids, type=pa.string()),
        "probabilities": probability_column(coded.probabilities),
    }
    if coded.baseline is not None:
        columns["baseline"] = probability_column(coded.baseline)
    pq.write_table(pa.table(columns), path, compression="zstd")


def probability_column(probabilities: NDArray[np.float32]) -> pa.FixedSizeListArray:
    """A row's probabilities of all labels in order, from (n_documents, n_labels)."""
    flat = pa.array(probabilities.reshape(-1), type=pa.float32())
    return pa.FixedSizeListArray.from_arrays(flat, probabilities.shape[1])


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
        columns = {
            name: np.asarray(pc.list_flatten(table[name])).reshape(len(table), -1)
            for name in ("probabilities", "baseline")
            if name in table.column_names
        }
        self._coded = Coded(columns["probabilities"], columns.get("baseline"))
        if len(table) and self._coded.probabilities.shape[1] != n_labels:
            raise UserError(f"{path}: it is of another label space; run the stage 'train_classifier' again.")

    def put_into(self, document_ids: Sequence[str], coded: Coded) -> Coded:
        """The same documents, those of split val as they were before the model learned from them."""
        places = [place for place, one in enumerate(document_ids) if one in self._rows]
        rows = [self._rows[document_ids[place]] for place in places]
        probabilities = coded.probabilities.copy()
        probabilities[places] = self._coded.probabilities[rows]
        if coded.baseline is None or self._coded.baseline is None:
            return Coded(probabilities, coded.baseline)
        baseline = coded.baseline.copy()
        baseline[places] = self._coded.baseline[rows]
        return Coded(probabilities, baseline)
