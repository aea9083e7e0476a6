"""The label space: which labels can be predicted, in a fixed order that is saved with every model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from pipeline.errors import UserError
from pipeline.files import read_json, write_json
from pipeline.icd.codes import CODE_SYSTEMS, LEVELS, Level, at_level
from pipeline.icd.titles import title


@dataclass(frozen=True)
class LabelSpace:
    """All predictable labels in order; a label id is a position in it.

    Attributes:
        labels: "icd10cm:I10", ..., sorted, so the order does not depend on the order of documents.
        titles: plain-language title of each label, or None.
        train_counts: documents of split train that carry each label.
        level: granularity; labels of documents are raised to it before they are looked up.
    """

    labels: tuple[str, ...]
    titles: tuple[str | None, ...]
    train_counts: tuple[int, ...]
    level: Level = "full"

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {label: index for index, label in enumerate(self.labels)}

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def fit(
        cls,
        train_label_sets: Iterable[Sequence[str]],
        *,
        level: Level = "full",
        min_documents: int = 1,
        top_k: int | None = None,
        counted_label_sets: Iterable[Sequence[str]] | None = None,
        titles: Mapping[str, str] | None = None,
    ) -> LabelSpace:
        """Choose the labels.

        Args:
            train_label_sets: label sets of split train.
            level: granularity to which labels are raised first.
            min_documents: a label needs so many documents.
            top_k: keep the k most frequent; ties go to the label that sorts first.
            counted_label_sets: documents that ``min_documents`` and ``top_k`` count; None: split train.
            titles: label -> title, such as those of a data set's own tables; asked before packages.

        Raises:
            UserError: if no label is left.

        Example:
            >>> LabelSpace.fit([["icd10cm:I10"], ["icd10cm:I10", "icd10cm:N17.9"]], min_documents=2).labels
            ('icd10cm:I10',)
        """
        train_counts = _count(train_label_sets, level)
        counts = train_counts if counted_label_sets is None else _count(counted_label_sets, level)
        frequent = [label for label, n in counts.items() if n >= min_documents]
        kept = sorted(sorted(frequent, key=lambda label: (-counts[label], label))[:top_k])
        if not kept:
            raise UserError(
                f"the label space is empty: {len(counts)} labels were seen, none in {min_documents} documents or more "
                f"(the most frequent one has {max(counts.values(), default=0)}); lower label_space.min_documents."
            )
        return cls(
            tuple(kept),
            tuple(title(label, titles) for label in kept),
            tuple(train_counts[label] for label in kept),
            level,
        )

    def raised(self, labels: Iterable[str]) -> set[str]:
        """Labels at the level of this space, each once, whether inside it or not."""
        return {at_level(label, self.level) for label in labels}

    def encode(self, labels: Iterable[str]) -> tuple[list[int], int]:
        """Label ids of a label set, ascending, and how many of its labels lie outside the space."""
        wanted = self.raised(labels)
        ids = sorted(self._ids[label] for label in wanted if label in self._ids)
        return ids, len(wanted) - len(ids)

    def decode(self, label_ids: Iterable[int]) -> list[str]:
        """Labels of label ids."""
        return [self.labels[index] for index in label_ids]

    def save(self, path: Path) -> None:
        """Write as JSON."""
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> LabelSpace:
        """Read what :meth:`save` wrote.

        Raises:
            UserError: if the file is damaged.
        """
        raw = read_json(path)
        try:
            columns = [tuple(raw[name]) for name in ("labels", "titles", "train_counts")]
            level = raw["level"]
            if not all(map(_can_be_label, columns[0])) or not all(isinstance(one, str | None) for one in columns[1]):
                raise TypeError
        except (KeyError, TypeError):
            raise UserError(f"{path} is not a label space; run the stage 'split' again.") from None
        if len({len(column) for column in columns}) != 1 or level not in LEVELS:
            raise UserError(f"{path} is damaged: columns of unequal length or no level; run the stage 'split' again.")
        return cls(columns[0], columns[1], columns[2], level)


def _can_be_label(label: object) -> bool:
    """Whether it is a text in one line that begins with a code system."""
    return isinstance(label, str) and label.isprintable() and label.partition(":")[0] in CODE_SYSTEMS


def _count(label_sets: Iterable[Sequence[str]], level: Level) -> Counter[str]:
    return Counter(label for labels in label_sets for label in {at_level(one, level) for one in labels})
