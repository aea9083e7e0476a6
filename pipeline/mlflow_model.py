"""A trained classifier as an MLflow model: MLflow runs this file to load one, from code and without pickle.

Input: a table with the columns document_id, each once, and text, where nothing is an empty text. Output: one row per
proposed code, most probable first: document_id, rank, code_system, code, title, probability. The environment needs
this package, since the weights lie in a classifier folder like any other. Serve it where texts may lie: MLflow's
answer to a malformed request repeats the request.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel

from pipeline.coding.classifier import MODEL_INPUTS, MODEL_OUTPUTS
from pipeline.coding.ensemble import CodingModel
from pipeline.coding.proposals import coded, unique_documents
from pipeline.coding.tally import Tally, cut_at
from pipeline.encoders.precision import default_device
from pipeline.errors import UserError
from pipeline.notes.document_files import new_document


class MLflowModel(PythonModel):
    """Proposes codes; see the module for its input and output."""

    def load_context(self, context: Any) -> None:
        """Load the classifier folder that was logged.

        Raises:
            UserError: if it is incomplete or was changed.
        """
        self._model = CodingModel.load(Path(context.artifacts["classifier"])).to(default_device())

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:  # type: ignore[override]
        """Code the documents of a table.

        Raises:
            MlflowException: if a document has no id, or the id of an earlier one; a server answers with its message.
        """
        try:
            return self._coded(model_input)
        except UserError as error:
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from None

    def _coded(self, model_input: pd.DataFrame) -> pd.DataFrame:
        columns = model_input[list(MODEL_INPUTS)].astype(object)
        given = columns.where(columns.notna(), None).itertuples(index=False)
        documents = unique_documents(new_document(f"row {number}", *row) for number, row in enumerate(given, start=1))
        rows, cut = [], Tally()
        for document, codes, _, is_cut in coded(self._model, documents, top_k=None):
            rows += [{"document_id": document.document_id} | asdict(code) for code in codes]
            cut.count(document.document_id, is_cut)
        cut.warn(cut_at(self._model), len(model_input))
        return pd.DataFrame(rows, columns=list(MODEL_OUTPUTS))


mlflow.models.set_model(MLflowModel())
