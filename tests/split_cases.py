"""Patients, labels and days that tests of splits share."""

from __future__ import annotations

import datetime
import random

Corpus = list[tuple[str, list[str]]]


def made_corpus(seed: int) -> Corpus:
    """Up to 80 documents of 10 to 31 patients with up to 3 of 6 labels."""
    chance = random.Random(seed)
    patients = [*range(10), *(chance.randrange(31) for _ in range(chance.randrange(30, 70)))]
    return [(str(patient), chance.sample("abcdef", chance.randrange(4))) for patient in patients]


def day(number: int) -> datetime.date:
    return datetime.date(2020, 1, 1) + datetime.timedelta(days=number)
