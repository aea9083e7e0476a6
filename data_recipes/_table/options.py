"""Settings of the recipe for a table of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator

from data_recipes._raw.csv_columns import OnBadRow
from data_recipes._raw.table_files import is_csv
from pipeline.experiment.settings import Section, absolute
from pipeline.icd.codes import CodeSystem


class Options(Section):
    """Columns and kind of codes."""

    document_id: str = Field("document_id", description="column with the unique id")
    patient_id: str | None = Field(None, description="column with the patient; null: every document its own")
    text: str = Field("text", description="column with the text")
    codes: str = Field("codes", description="column with the codes, a list or delimited text")
    delimiter: str = Field(";", min_length=1, description="between codes in delimited text")
    code_system: CodeSystem = Field("icd10cm", description="of all codes; 'none' for labels of another kind")
    split: str | None = Field(None, description="column with train, val or test; null for none")
    date: str | None = Field(None, description="column with the date, for split.method: temporal; null for none")
    codes_file: str = Field("codes.csv", description="table of codes beside a folder of .txt files")
    keep_uncoded: bool = Field(False, description="keep documents without codes, as documents that need none")
    titles_path: Path | None = Field(None, description="CSV with columns code and title; null for none")
    on_bad_row: OnBadRow = Field("error", description="a broken CSV row: stop, or skip and count it")

    _resolve = field_validator("titles_path")(absolute)

    @field_validator("titles_path")
    @classmethod
    def _is_csv(cls, path: Path | None) -> Path | None:
        if path is not None and not is_csv(path):
            raise ValueError("must be a .csv or .csv.gz file with the columns code and title")
        return path

    @model_validator(mode="after")
    def _columns_differ(self) -> Self:
        """A text that is read as an id or a code would reach messages and reports."""
        names = [self.document_id, self.text, self.codes, *filter(None, (self.split, self.date))]
        if len(set(names)) < len(names) or self.patient_id in (self.text, self.codes):
            raise ValueError(
                "document_id, text, codes, split and date must be different columns, patient_id another than text and "
                "codes"
            )
        return self

    def columns(self) -> list[str]:
        """The columns that are read, each once: the patient may be the document."""
        wanted = (self.document_id, self.patient_id, self.text, self.codes, self.split, self.date)
        return list(dict.fromkeys(name for name in wanted if name is not None))
