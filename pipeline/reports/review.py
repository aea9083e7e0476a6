"""The review page: documents with their proposed codes and evidence, for coders, in one offline file.

The page holds text of documents. It goes where its user says, never where git or MLflow would pick it up.
"""

from __future__ import annotations

import base64
import bisect
import hashlib
import importlib.resources
import itertools
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from pipeline.coding.code_files import CodedDocument, text_digest
from pipeline.coding.code_reading import read_codes
from pipeline.coding.span_places import sentence_finder
from pipeline.errors import UserError
from pipeline.files import check_page_path, guarded_io, is_seen_by_git, replacing
from pipeline.notes.document_files import COLUMNS, Columns, NewDocument, read_documents
from pipeline.notes.spans import Span
from pipeline.notes.text import PREAMBLE, find_sections

logger = logging.getLogger(__name__)

_MISFIT = (
    "were coded from another text than their note, and their evidence is not shown; give the texts that were coded, of "
    "predictions.parquet those of documents.parquet"
)
_UNCHECKED = "do not say from which text they were coded, so nothing tells whether their note is the one"


@dataclass
class Review:
    """What a page shows and what it had to leave out.

    Attributes:
        documents: one entry a document, as the page's script reads it.
        missing: ids of documents that have codes but no note.
        misfits: ids of documents that were coded from another text than the note.
        unchecked: ids of documents that do not say from which text they were coded.
        n_left_out: documents beyond the page's limit.
        n_codes: codes on the page.
        n_below: those of them below their threshold, which the model does not propose (``icd predict --top-k``).
    """

    documents: list[dict[str, Any]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    misfits: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    n_left_out: int = 0
    n_codes: int = 0
    n_below: int = 0


def write_review(
    predictions_path: Path,
    notes: str,
    output_path: Path | None,
    *,
    max_documents: int,
    columns: Columns = COLUMNS,
) -> Path:
    """Write the page.

    Args:
        predictions_path: see :func:`pipeline.coding.code_reading.read_codes`.
        notes: see :func:`pipeline.notes.document_files.read_documents`; the texts that were coded.
        output_path: .html; None: review.html beside the predictions, if these lie under a folder named work.
        max_documents: the page's limit; the first ones are shown.
        columns: of the notes with id and text.

    Returns:
        The path written.

    Raises:
        UserError: if an input cannot be read, they share no document, or the page may not be written there.
    """
    with guarded_io(output_path or predictions_path):
        output_path = checked_output(output_path, predictions_path)
    with guarded_io(Path(notes)):
        review = collect(predictions_path, notes, max_documents=max_documents, columns=columns)
    page = render(review)
    with guarded_io(output_path), replacing(output_path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    _report(review, output_path)
    return output_path


def _report(review: Review, output_path: Path) -> None:
    logger.info("%d documents, %d codes: %s", len(review.documents), review.n_codes, output_path)
    if review.n_left_out:
        logger.info("%d more documents are not on the page; see --max-documents", review.n_left_out)
    told = ((review.missing, "have codes but no note"), (review.misfits, _MISFIT), (review.unchecked, _UNCHECKED))
    for ids, what in told:
        if ids:
            logger.warning("%d documents %s (first: %s)", len(ids), what, ids[0])
    logger.warning("the page holds text of documents: keep it where they may be kept")


def checked_output(output_path: Path | None, predictions_path: Path) -> Path:
    """The absolute path of the page.

    Raises:
        UserError: if there is none, no page can be there, or text of documents must not be: in mlruns, or where git
            would pick it up.
    """
    if output_path is None:
        output_path = predictions_path.resolve().with_name("review.html")
        if "work" not in output_path.parts:
            raise UserError(
                f"{predictions_path} lies under no folder named work; say with --output where the page, which holds "
                "text of documents, may be written."
            )
    resolved = output_path.expanduser().resolve()
    check_page_path(resolved)
    if "mlruns" in resolved.parts or any((folder / "mlflow.db").exists() for folder in resolved.parents):
        raise UserError(
            f"--output {output_path}: the page holds text of documents, which never goes into mlruns or another "
            "tracking.dir."
        )
    if is_seen_by_git(resolved):
        raise UserError(
            f"--output {output_path}: git would pick it up there, and the page holds text of documents; name a folder "
            "that git ignores, such as work."
        )
    return resolved


def collect(
    predictions_path: Path,
    notes: str,
    *,
    max_documents: int,
    columns: Columns = COLUMNS,
) -> Review:
    """Join codes and notes by document id; no more notes than the page shows are kept.

    Raises:
        UserError: if the predictions hold no document, or none of them is among the notes, or one is there twice.
    """
    coded = read_codes(predictions_path)
    codes: dict[str, CodedDocument] = {}
    for number, one in enumerate(itertools.islice(coded, max_documents), start=1):
        if one.document_id in codes:
            raise UserError(f"{predictions_path}: document {number} has the id of an earlier one; ids must be unique.")
        codes[one.document_id] = one
    review = Review(n_left_out=sum(1 for _ in coded))
    found: dict[str, dict[str, Any]] = {}
    for number, note in enumerate(read_documents(notes, columns), start=1):
        if note.document_id in found:
            raise UserError(f"--notes {notes}: document {number} has the id of an earlier one; ids must be unique.")
        if note.document_id in codes:
            found[note.document_id] = _entry(review, note, codes[note.document_id])
    review.missing = [document_id for document_id in codes if document_id not in found]
    if not found:
        raise UserError(
            f"{predictions_path}: none of its {len(codes)} documents is among the notes {notes}; give the notes that "
            "were coded."
        )
    review.documents = [found[document_id] for document_id in codes if document_id in found]
    is_predicted = [code["isPredicted"] for one in review.documents for code in one["codes"]]
    review.n_codes, review.n_below = len(is_predicted), is_predicted.count(False)
    return review


def _entry(review: Review, note: NewDocument, coded: CodedDocument) -> dict[str, Any]:
    """One document for the page's script: offsets count UTF-16 units there."""
    text, codes = note.text, coded.codes
    spans = [span for code in codes for span in code.evidence or ()]
    is_same = coded.text_digest in (None, text_digest(text))
    fits = is_same and all(0 <= span.start < span.end <= len(text) for span in spans)
    if not fits:
        review.misfits.append(note.document_id)
    elif coded.text_digest is None:
        review.unchecked.append(note.document_id)
    unit = utf16_offsets(text)
    place = _places(text, max((span.end for span in spans), default=0)) if fits and spans else None
    return {
        "id": note.document_id,
        "text": text,
        "hasEvidence": any(code.evidence is not None for code in codes),
        "fits": fits,
        "codes": [
            {
                "system": code.code_system,
                "code": code.code,
                "title": code.title or "",
                "probability": round(code.probability, 6),
                "isPredicted": code.is_predicted,
                "evidence": [_span_entry(span, *place(span), unit) for span in code.evidence or ()] if place else [],
            }
            for code in codes
        ],
    }


def _span_entry(span: Span, section: str, start: int, end: int, unit: Callable[[int], int]) -> list[int | float | str]:
    return [unit(span.start), unit(span.end), round(span.score, 4), section, unit(start), unit(end), span.source]


def _places(text: str, last_end: int) -> Callable[[Span], tuple[str, int, int]]:
    """Section and sentence of a span: name of the section, start and end of the sentence."""
    sections = find_sections(text)
    section_starts = [section.start for section in sections]
    sentence_of = sentence_finder(text, last_end)

    def place(span: Span) -> tuple[str, int, int]:
        section = bisect.bisect_right(section_starts, span.start) - 1
        name = sections[section].name if section >= 0 else PREAMBLE
        return name, *sentence_of(span.start, span.end)

    return place


def utf16_offsets(text: str) -> Callable[[int], int]:
    r"""Turn an offset in characters into one in UTF-16 units, in which browsers count.

    Example:
        >>> utf16_offsets("a\U0001f600b")(2)
        3
    """
    if text.isascii():
        return lambda offset: offset
    wide = [place for place, character in enumerate(text) if ord(character) > 0xFFFF]
    return lambda offset: offset + bisect.bisect_left(wide, offset)


def render(review: Review) -> str:
    """The page as HTML: markup of documents is text in it, and nothing is loaded from anywhere."""
    templates = importlib.resources.files("pipeline.reports") / "templates"
    style, script = ((templates / name).read_text(encoding="utf-8") for name in ("review.css", "review.js"))
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline.reports"), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("review.html.j2").render(
        review=review,
        style=Markup(style),
        script=Markup(script),
        style_digest=_digest(style),
        script_digest=_digest(script),
        data=Markup(embedded_json({"documents": review.documents})),
    )


def embedded_json(content: Any) -> str:
    r"""JSON that can stand inside a script element: no character of it can end the element or a line of a script.

    Example:
        >>> embedded_json("</script>\u2028&")
        '"\\u003c/script\\u003e\\u2028\\u0026"'
    """
    text = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _digest(content: str) -> str:
    """For the page's content security policy: nothing but our own script and style is run or applied."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
