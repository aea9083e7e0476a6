"""Coding of new documents: files in, a classifier, files out. Streams, so memory does not grow with their number."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import logging
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from pipeline.coding.classifier import CodedText
from pipeline.coding.code_files import Code, text_digest, writing_codes
from pipeline.coding.ensemble import CodingModel
from pipeline.coding.evidence import Explainer
from pipeline.coding.tally import Tally, cut_at
from pipeline.encoders.kernels import keep_few_kernels
from pipeline.encoders.precision import default_device
from pipeline.errors import UserError
from pipeline.files import guarded_io, warn_of_git
from pipeline.icd.codes import parse_label
from pipeline.icd.labels import LabelSpace
from pipeline.notes.document_files import COLUMNS, Columns, NewDocument, read_documents

logger = logging.getLogger(__name__)

_MICRO_BATCH_TOKENS = 4096
_BLOCK = 256  # documents in memory at a time
_M_MMAP_THRESHOLD, _MMAP_BYTES = -3, 32 * 2**20  # of mallopt: blocks above the most it takes are the system's own


def code_documents(
    model_dir: Path,
    source: str,
    output_path: Path,
    *,
    top_k: int | None,
    has_evidence: bool = False,
    mixed_precision: str | None = None,
    columns: Columns = COLUMNS,
) -> tuple[int, int]:
    """Code documents from a file, folder or standard input.

    Args:
        model_dir: a classifier folder.
        source: see :func:`pipeline.notes.document_files.read_documents`.
        output_path: .csv, .jsonl or .parquet.
        top_k: give so many codes a document, most probable first; None gives those that reach the threshold.
        has_evidence: give the spans each code rests on, too; encodes documents with codes twice.
        mixed_precision: of the encoder: 'no', 'bf16', or 'fp16' on a GPU; None: as it was trained.
        columns: of the source with id and text.

    Returns:
        Number of documents, number of codes written.

    Raises:
        UserError: if the model, the input or the output cannot be used; no output is left then.
    """
    with guarded_io(output_path):
        if output_path.exists() and Path(source).exists() and output_path.samefile(source):
            raise UserError(f"--output {output_path} is the input itself; name another file.")
    warn_of_git(output_path, f"--output {output_path}")
    memory = _Memory()
    documents = unique_documents(read_documents(source, columns))
    n_documents, n_codes, without_text, cut = 0, 0, Tally(), Tally()
    with (
        writing_codes(output_path, has_evidence=has_evidence) as writer,
        tqdm(desc="predict", unit="doc", disable=None) as bar,
    ):
        model = CodingModel.load(model_dir).to(default_device(), mixed_precision)
        explainer = Explainer.of_model(model, max_tokens=_MICRO_BATCH_TOKENS) if has_evidence else None
        for document, codes, has_text, is_cut in coded(model, documents, top_k=top_k, explainer=explainer):
            writer.add(document.document_id, codes, text_digest(document.text))
            n_documents, n_codes = n_documents + 1, n_codes + len(codes)
            without_text.count(document.document_id, not has_text)
            cut.count(document.document_id, is_cut)
            bar.update()
            if n_documents % _BLOCK == 0:
                memory.give_back()
        if not n_documents:  # inside, so that no empty output replaces an earlier one
            raise UserError(f"--input {source}: it holds no document.")
    cut.warn(cut_at(model), n_documents)
    if without_text.n:
        without_text.warn("have no text, and so no codes", n_documents)
    elif not n_codes:
        logger.warning("no document got a code: is %r the column of the notes?", columns.text)
    return n_documents, n_codes


class Proposal(NamedTuple):
    """A document with the codes proposed for it.

    Attributes:
        document: as given.
        codes: most probable first.
        has_text: whether anything is left of its text once that is prepared as in training; else it has no codes.
        is_cut: whether it is longer than the model reads.
    """

    document: NewDocument
    codes: Sequence[Code]
    has_text: bool
    is_cut: bool


def coded(
    model: CodingModel,
    documents: Iterable[NewDocument],
    *,
    top_k: int | None,
    explainer: Explainer | None = None,
) -> Iterator[Proposal]:
    """Code documents one after another.

    Args:
        model: a trained one.
        documents: any number; only a block of them is held at a time.
        top_k: give so many codes a document; None gives those that reach their threshold.
        explainer: finds the evidence of each code, where it is asked for.
    """
    remaining = iter(documents)
    while block := list(itertools.islice(remaining, _BLOCK)):
        texts = [document.text for document in block]
        read = list(model.code_texts(texts, max_tokens=_MICRO_BATCH_TOKENS))
        have_text = [bool(model.preparation(text.replace("\0", "")).strip()) for text in texts]
        proposed = [
            propose(_numbers(of_text, document), model.label_space, model.thresholds, top_k) if has_text else []
            for document, of_text, has_text in zip(block, read, have_text, strict=True)
        ]
        if explainer is not None:
            proposed = _with_evidence(explainer, texts, proposed)
        yield from map(Proposal, block, proposed, have_text, (one.is_cut for one in read))


def _numbers(of_text: CodedText, document: NewDocument) -> np.ndarray:
    """Refuse what is no number: it would be below every threshold and look like a note without codes."""
    if not np.isfinite(of_text.probabilities).all():
        raise UserError(
            f"document {document.document_id}: the model gives no number for it; try --mixed-precision no, and if that "
            "does not help, train the model again."
        )
    return of_text.probabilities


def _with_evidence(
    explainer: Explainer, texts: Sequence[str], proposed: Sequence[Sequence[Code]]
) -> list[Sequence[Code]]:
    id_of = {label: index for index, label in enumerate(explainer.label_space.labels)}
    label_ids = [[id_of[f"{code.code_system}:{code.code}"] for code in codes] for codes in proposed]
    found = explainer.explain_texts(texts, label_ids)
    return [
        [replace(code, evidence=tuple(spans)) for code, spans in zip(codes, each, strict=True)]
        for codes, each in zip(proposed, found, strict=True)
    ]


def propose(
    probabilities: np.ndarray, label_space: LabelSpace, thresholds: float | np.ndarray, top_k: int | None
) -> Sequence[Code]:
    """Codes of one document, most probable first; equally probable ones in the order of the label space.

    Args:
        probabilities: (n_labels,) float32.
        label_space: what they stand for.
        thresholds: from which a code is predicted, one or (n_labels,) float32.
        top_k: how many to give; None for the predicted ones.
    """
    order = np.argsort(-probabilities, kind="stable")
    is_predicted = probabilities >= thresholds
    kept = order[:top_k] if top_k is not None else order[is_predicted[order]]
    codes = []
    for rank, index in enumerate(kept.tolist(), start=1):
        system, code = parse_label(label_space.labels[index])
        title, probability = label_space.titles[index], float(probabilities[index])
        codes.append(Code(rank, system, code, title, probability, bool(is_predicted[index])))
    return codes


class _Memory:
    """Gives freed blocks back to the system, where glibc keeps those of every size that micro-batches have had.

    A low threshold for blocks of the system's own would do that by itself, but each of them is cleared page by page:
    in bf16 a fifth to a third of the time went there.
    """

    def __init__(self) -> None:
        keep_few_kernels()
        self._libc: ctypes.CDLL | None = None
        with contextlib.suppress(OSError, AttributeError):  # not glibc
            libc = ctypes.CDLL("libc.so.6")
            libc.mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES)
            self._libc = libc

    def give_back(self) -> None:
        """Return what is free now."""
        if self._libc is not None:
            self._libc.malloc_trim(0)


def unique_documents(documents: Iterable[NewDocument]) -> Iterator[NewDocument]:
    """Refuse a document id that comes twice, since its codes could not be told apart; documents count from 1.

    The ids seen are in a file without a name, which goes with this process: a set of a million takes 0.1 GB.

    Raises:
        UserError: when it comes to the second one.
    """
    with contextlib.closing(sqlite3.connect("")) as seen:
        seen.execute("CREATE TABLE ids (id TEXT PRIMARY KEY, number INTEGER) WITHOUT ROWID")
        for number, document in enumerate(documents, start=1):
            try:
                seen.execute("INSERT INTO ids VALUES (?, ?)", (document.document_id, number))
            except sqlite3.IntegrityError:
                first = seen.execute("SELECT number FROM ids WHERE id = ?", (document.document_id,)).fetchone()[0]
                raise UserError(
                    f"documents {first} and {number} of the input have the same document_id; ids must be unique."
                ) from None
            yield document
