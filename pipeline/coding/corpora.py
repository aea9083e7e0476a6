"""The documents of a split with their labels, whose texts are streamed from the documents table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from scipy import sparse

from pipeline.errors import UserError
from pipeline.evaluation.label_counts import LabelMatrix, label_matrix
from pipeline.notes.documents import iterate_documents, values_of


@dataclass(frozen=True)
class Corpus:
    """Documents of a split with their labels; the texts are streamed from the documents table.

    Attributes:
        documents_path: the documents table.
        document_ids: which of it, in its order.
        true: (n_documents, n_labels) bool CSR.
    """

    documents_path: Path
    document_ids: Sequence[str]
    true: LabelMatrix

    def __len__(self) -> int:
        return len(self.document_ids)

    def texts(self) -> Iterator[str]:
        """Texts in order.

        Raises:
            UserError: if the table lacks one of the documents or has another order.
        """
        yield from values_of(self.documents_path, "text", self.document_ids)

    def patients(self) -> list[str]:
        """Patient of each document."""
        return list(values_of(self.documents_path, "patient_id", self.document_ids))

    def __add__(self, other: Corpus) -> Corpus:
        """The documents of both, in the order of the table."""
        ids = [*self.document_ids, *other.document_ids]
        places = {document_id: row for row, document_id in enumerate(ids)}
        order = [places[one] for one in _ids_in_table(self.documents_path) if one in places]
        both = sparse.csr_array(sparse.vstack([self.true, other.true], format="csr"))
        return Corpus(self.documents_path, [ids[row] for row in order], both[order])


def _ids_in_table(path: Path) -> Iterator[str]:
    for batch in iterate_documents(path, columns=["document_id"]):
        yield from batch["document_id"].to_pylist()


def build_corpora(
    documents_path: Path,
    document_ids: Sequence[str],
    splits: Sequence[str],
    label_ids: Sequence[Sequence[int]],
    n_labels: int,
) -> tuple[Corpus, Corpus]:
    """The corpora of split train and split val from columns of the tokenized data set."""
    corpora = []
    for split in ("train", "val"):
        rows = [row for row, one in enumerate(splits) if one == split]
        true = label_matrix([label_ids[row] for row in rows], n_labels)
        corpora.append(Corpus(documents_path, [document_ids[row] for row in rows], true))
    if not corpora[1].true.nnz:
        raise UserError(
            f"split val has {len(corpora[1])} documents and no label of the label space to fit thresholds on; "
            "raise split.val in the config."
        )
    return corpora[0], corpora[1]
