"""Radiology reports of the 2007 Computational Medicine Challenge, with ICD-9-CM codes of three human coders.

Source: Cincinnati Children's Hospital; Pestian et al. 2007, "A shared task involving multi-label classification of
clinical free text", BioNLP. Anonymized by its authors.
Licence: free for non-commercial use. The file is named by the user and never part of this project.

File: one XML, or a folder with one; the training file has 978 reports with 45 codes, the test file no codes::

    <docs>
      <doc id="1" type="RADIOLOGY_REPORT">
        <codes>
          <code origin="CMC_MAJORITY" type="ICD-9-CM">786.2</code>
          <code origin="COMPANY1" type="ICD-9-CM">786.2</code>
        </codes>
        <texts>
          <text origin="CCHMC_RADIOLOGY" type="CLINICAL_HISTORY">...</text>
          <text origin="CCHMC_RADIOLOGY" type="IMPRESSION">...</text>
        </texts>
      </doc>
    </docs>

Rules: the labels of a document are the codes of origin CMC_MAJORITY. Every other origin is a human coder, kept as an
annotator; since the majority is theirs, comparing one with the labels flatters, comparing them with each other does
not. The text is all <text> in the order of the file, each under its type as a header. There are no patient ids: every
report counts as a patient of its own.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.parsers.expat import ErrorString

from data_recipes import RawTable, require_raw
from pipeline.errors import UserError
from pipeline.experiment.settings import Section
from pipeline.icd.codes import make_label, normalise
from pipeline.notes.documents import Document
from pipeline.notes.ingest_report import IngestReport

PUBLISHED: Mapping[str, int] = {"reports": 978, "labels": 45}
"""Of the training file."""

_TITLES: Mapping[str, str] = {
    "icd9cm:079.99": "Unspecified viral infection",
    "icd9cm:277.00": "Cystic fibrosis without mention of meconium ileus",
    "icd9cm:462": "Acute pharyngitis",
    "icd9cm:486": "Pneumonia, organism unspecified",
    "icd9cm:493.90": "Asthma, unspecified type, unspecified",
    "icd9cm:511.9": "Unspecified pleural effusion",
    "icd9cm:518.0": "Pulmonary collapse",
    "icd9cm:591": "Hydronephrosis",
    "icd9cm:592.0": "Calculus of kidney",
    "icd9cm:593.1": "Hypertrophy of kidney",
    "icd9cm:593.5": "Hydroureter",
    "icd9cm:593.70": "Vesicoureteral reflux unspecified or without reflux nephropathy",
    "icd9cm:593.89": "Other specified disorders of kidney and ureter",
    "icd9cm:596.54": "Neurogenic bladder NOS",
    "icd9cm:596.8": "Other specified disorders of bladder",
    "icd9cm:599.0": "Urinary tract infection, site not specified",
    "icd9cm:599.7": "Hematuria",
    "icd9cm:741.90": "Spina bifida without mention of hydrocephalus, unspecified region",
    "icd9cm:753.0": "Renal agenesis and dysgenesis",
    "icd9cm:753.21": "Congenital obstruction of ureteropelvic junction",
    "icd9cm:753.3": "Other specified anomalies of kidney",
    "icd9cm:758.6": "Gonadal dysgenesis",
    "icd9cm:759.89": "Other specified congenital anomalies",
    "icd9cm:780.6": "Fever",
    "icd9cm:783.0": "Anorexia",
    "icd9cm:786.05": "Shortness of breath",
    "icd9cm:786.07": "Wheezing",
    "icd9cm:786.09": "Other respiratory abnormalities",
    "icd9cm:786.2": "Cough",
    "icd9cm:786.50": "Chest pain, unspecified",
    "icd9cm:786.59": "Other chest pain",
    "icd9cm:787.03": "Vomiting alone",
    "icd9cm:788.30": "Urinary incontinence, unspecified",
    "icd9cm:788.41": "Urinary frequency",
    "icd9cm:789.00": "Abdominal pain, unspecified site",
    "icd9cm:789.09": "Abdominal pain, other specified site",
    "icd9cm:791.0": "Proteinuria",
    "icd9cm:795.5": "Nonspecific reaction to tuberculin skin test without active tuberculosis",
    "icd9cm:V13.02": "Personal history of urinary (tract) infection",
    "icd9cm:V13.09": "Personal history of other specified urinary system disorders",
    "icd9cm:V42.0": "Kidney replaced by transplant",
    "icd9cm:V67.09": "Follow-up examination, following other surgery",
    "icd9cm:V72.5": "Radiological examination, not elsewhere classified",
}
"""Of the codes of the training file, which has none itself. Source: ICD-9-CM (NCHS and CMS, public domain)."""

_WHAT = "the XML file of the challenge's training reports"
_GOLD = "CMC_MAJORITY"
_CODE_TYPE = "ICD-9-CM"


class Options(Section):
    """The recipe has no settings of its own."""


def raw_files(raw: Path | None, options: Options) -> list[Path]:
    """The XML file; of a folder, all that it holds."""
    if raw is None:
        return []
    return sorted(raw.glob("*.xml")) if raw.is_dir() else [raw]


def raw_tables(raw: Path | None, options: Options) -> list[RawTable]:
    """The XML file, see :class:`data_recipes.RawTable`."""
    return [RawTable(_need_file(require_raw(raw, _WHAT)))]


def read_titles(raw: Path | None, options: Options, report: IngestReport, scratch_dir: Path) -> Mapping[str, str]:
    """Titles of the codes of the training file, from ICD-9-CM itself."""
    return _TITLES


def read(raw: Path | None, options: Options, report: IngestReport, scratch_dir: Path) -> Iterator[Document]:
    """Documents in the order of the file, which is read in a stream.

    Counted as dropped: reports without id, codes that are none, empty, of another type or without origin.

    Raises:
        UserError: if the file is missing, no XML, cut off, or of another kind.
    """
    path = _need_file(require_raw(raw, _WHAT))
    for number, element in enumerate(_elements(path), start=1):
        report.count("reports")
        document_id = (element.get("id") or "").strip()
        if not document_id:
            report.drop("missing_document_id", f"report {number}")
            continue
        labels = _labels_by_origin(element, document_id, report)
        gold = labels.pop(_GOLD, [])
        yield Document(document_id, document_id, _text(element), gold, annotations=labels)
    if not report.counts["reports"]:
        raise UserError(f"{path}: holds no <doc> elements; expected {_WHAT}.")


def _need_file(raw: Path) -> Path:
    if not raw.is_dir():
        return raw
    files = sorted(raw.glob("*.xml"))
    if len(files) != 1:
        raise UserError(f"{raw}: holds {len(files)} .xml files, expected one; name {_WHAT} itself as data.raw.")
    return files[0]


def _elements(path: Path) -> Iterator[ET.Element]:
    """Every <doc> of the file; what was read is let go."""
    try:
        with path.open("rb") as file:
            events = ET.iterparse(file, events=("start", "end"))
            _, root = next(events)
            for event, element in events:
                if event == "end" and element.tag == "doc":
                    yield element
                    root.clear()
    except ET.ParseError as error:
        line, column = error.position
        raise UserError(
            f"{path}, line {line}, column {column}: no XML, or cut off here ({ErrorString(error.code)}); "
            "get the file again and compare its size with the source's."
        ) from None
    except (OSError, UnicodeError, ValueError, LookupError) as error:
        raise UserError(f"{path}: cannot be read as XML ({type(error).__name__}); expected {_WHAT}.") from None


def _labels_by_origin(element: ET.Element, document_id: str, report: IngestReport) -> dict[str, list[str]]:
    """The labels that each origin gives a report, each once; a coder without a usable code has an empty list."""
    labels: dict[str, list[str]] = {}
    for code in element.iter("code"):
        origin = (code.get("origin") or "").strip()
        if not origin:
            report.drop("code_without_origin", document_id)
            continue
        of_origin = labels.setdefault(origin, [])
        label, problem = _label(code)
        if label is None:
            report.drop(problem if origin == _GOLD else f"annotator_{problem}", document_id)
        elif label not in of_origin:
            of_origin.append(label)
    return labels


def _label(code: ET.Element) -> tuple[str | None, str]:
    """The label of a <code>, or None and the reason."""
    text = "".join(code.itertext()).strip()
    if code.get("type", _CODE_TYPE) != _CODE_TYPE:
        return None, "code_of_other_type"
    if not text:
        return None, "code_missing"
    try:
        return make_label("icd9cm", normalise(text, "icd9cm")), ""
    except UserError:
        return None, "code_malformed"


def _text(element: ET.Element) -> str:
    """The parts of a report, each under its header; parts without text are left out."""
    parts = []
    for part in element.iter("text"):
        body = "".join(part.itertext()).strip()
        header = (part.get("type") or "TEXT").replace("_", " ")
        if body:
            parts.append(f"{header}: {body}")
    return "\n".join(parts)
