"""Discharge summaries of the synthetic corpus.

A condition of the stay is named (by title, synonym or abbreviation), implied (by a drug or a finding), or now
and then not mentioned at all. Other conditions are distractors: negated, of the family, over, only possible.
What is what can be told from the sentence and its section, but not from the words of the note alone.
"""

from __future__ import annotations

import itertools
import random
import re
from collections import defaultdict
from collections.abc import Sequence

from data_recipes._synthetic import phrases
from data_recipes._synthetic.patients import Stay, count_codes, group_of
from data_recipes._synthetic.phrases import Frame
from data_recipes._synthetic.vocabulary import Condition, Vocabulary

_P_UNMENTIONED = 0.03
_P_IMPLIED = 0.12  # only implied, where something implies it
_P_ALSO_IMPLIED = 0.25  # beside its name
_P_AGAIN = 0.5  # named twice
_P_PRINCIPAL_AGAIN = 0.6
_P_TITLE = 0.15  # called by its official title
_N_DISTRACTORS = ((0, 1, 2, 3, 4), (10, 30, 30, 20, 10))  # of a short note
_TRIES = 10  # draws for one distractor, before a note makes do with fewer
_SHORT_WORDS = 200
_WORDS_PER_DISTRACTOR = 150  # one more for so many words beyond that
_P_PROCEDURE_NOT_DONE = 0.2
_WORDS_SPREAD = 0.2  # standard deviation of the logarithm of the length
_N_TITLE_WORDS = 65  # of the header and the section titles
_FILLER_VARIANTS = 500
_FILLER_WEIGHTS = {phrases.RESULTS: 3, phrases.COURSE: 3, phrases.EXAM: 2, phrases.HPI: 2}
_PROSE = frozenset((phrases.HPI, phrases.SOCIAL, phrases.FAMILY, phrases.INSTRUCTIONS))
_RANGE = re.compile(r"\{(\d+)-(\d+)\}")
_DISTRACTOR_KINDS = ((phrases.NEGATED, phrases.OF_FAMILY, phrases.OF_OLD, phrases.POSSIBLE), (45, 20, 15, 20))


class NoteWriter:
    """Writes notes about the conditions of a vocabulary.

    Args:
        vocabulary: of the corpus.
        mean_words: length to aim at. A note is never shorter than what it has to say, about 150 words.
    """

    def __init__(self, vocabulary: Vocabulary, mean_words: int) -> None:
        self._mean_words = mean_words
        counts = count_codes(vocabulary)  # a distractor is as common as the condition itself
        self._diagnoses = list(vocabulary.diagnoses.values())
        self._cumulative = list(itertools.accumulate(counts[one.code] + 0.5 for one in self._diagnoses))
        self._procedures = list(vocabulary.procedures.values())
        self._filler = _filler_pool(random.Random(0))
        self._sentences = [sentence for _, sentence in self._filler]
        self._sentence_words = sum(one.count(" ") + 1 for one in self._sentences) / len(self._sentences)

    def write(self, rng: random.Random, stay: Stay, sex: str) -> str:
        """A note about one stay."""
        note = _Note(rng)
        note.add(phrases.SECTIONS[0], stay.complaint)
        for condition in (*stay.diagnoses, *stay.procedures):
            _tell(note, condition, is_principal=condition is stay.diagnoses[0])
        n_words = self._mean_words * rng.lognormvariate(-(_WORDS_SPREAD**2) / 2, _WORDS_SPREAD)
        self._distract(note, stay, sex, n_words)
        while note.n_words + _N_TITLE_WORDS < n_words:
            note.add(*rng.choice(self._filler))
        return note.text(sex)

    def write_filler(self, rng: random.Random, n_words: float) -> str:
        """About so many words of sentences that name no condition, a line each."""
        return "\n".join(rng.choices(self._sentences, k=max(1, round(n_words / self._sentence_words))))

    def _distract(self, note: _Note, stay: Stay, sex: str, n_words: float) -> None:
        rng = note.rng
        principal = _name(rng, stay.diagnoses[0])
        n_more = int(max(0, n_words - _SHORT_WORDS) / _WORDS_PER_DISTRACTOR)
        others = self._others(rng, stay, sex, n=rng.choices(*_N_DISTRACTORS)[0] + n_more + 1)
        # The second of a pair is only used by frames that name two, and is in turn the first of the next pair.
        for first, second in itertools.pairwise(others):
            frames = _distractor_frames(rng, first)
            frame = rng.choice([one for one in frames if second.kind != "status" or "{y}" not in one[1]])
            note.add_frame(frame, _name(rng, first), y=_name(rng, second), p=principal)
        if rng.random() < _P_PROCEDURE_NOT_DONE:
            done = {one.code for one in stay.procedures}
            other = rng.choice([one for one in self._procedures if one.code not in done])
            note.add_frame(rng.choice(phrases.NOT_DONE), _name(rng, other))

    def _others(self, rng: random.Random, stay: Stay, sex: str, *, n: int) -> list[Condition]:
        """Conditions that this stay does not have, and whose names are not part of what it has; at most n."""
        groups = {group_of(one.code) for one in stay.diagnoses}
        said = "|".join(name for one in stay.diagnoses for name in one.names)
        drawn = rng.choices(self._diagnoses, cum_weights=self._cumulative, k=_TRIES * n)
        others: dict[str, Condition] = {}
        for one in drawn:
            if len(others) == n:
                break
            fits = group_of(one.code) not in groups and one.sex in (None, sex)
            if fits and not any(name in said for name in one.names):
                others.setdefault(group_of(one.code), one)
        return list(others.values())


class _Note:
    """A note that grows sentence by sentence."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.n_words = 0
        self._sentences: dict[str, list[str]] = defaultdict(list)

    def add(self, section: str, sentence: str) -> None:
        self._sentences[section].append(sentence)
        self.n_words += sentence.count(" ") + 1

    def add_frame(self, frame: Frame, name: str, **names: str) -> None:
        section, sentence = frame
        self.add(section, sentence.format(x=name, X=name[:1].upper() + name[1:], **names))

    def text(self, sex: str) -> str:
        """The whole note, headed as such summaries are; every section has something in it."""
        rng = self.rng
        parts = [
            " \nName:  ___                     Unit No:   ___\n"
            " \nAdmission Date:  ___              Discharge Date:   ___\n"
            f" \nDate of Birth:  ___             Sex:   {sex}\n \nService: {rng.choice(phrases.SERVICES)}\n"
            f" \nAllergies: \n{rng.choice(phrases.ALLERGIES)}\n \nAttending: ___.\n \n"
        ]
        for section in phrases.SECTIONS:
            sentences = self._sentences[section] or [rng.choice(phrases.IF_EMPTY[section])]
            rng.shuffle(sentences)
            parts.append(f"{section}:\n{(' ' if section in _PROSE else chr(10)).join(sentences)}\n \n")
        return "".join(parts)


def _tell(note: _Note, condition: Condition, *, is_principal: bool) -> None:
    """Mention a condition of the stay, or not."""
    rng = note.rng
    if not is_principal:
        if rng.random() < _P_UNMENTIONED:
            return
        if (condition.findings or condition.drugs) and rng.random() < _P_IMPLIED:
            _imply(note, condition)
            return
    frames = phrases.PRINCIPAL if is_principal else _frames(condition)
    note.add_frame(rng.choice(frames), _name(rng, condition))
    if rng.random() < (_P_PRINCIPAL_AGAIN if is_principal else _P_AGAIN):
        note.add_frame(rng.choice(_frames(condition)), _name(rng, condition))
    if (condition.findings or condition.drugs) and rng.random() < _P_ALSO_IMPLIED:
        _imply(note, condition)


def _imply(note: _Note, condition: Condition) -> None:
    clue = note.rng.randrange(len(condition.findings) + len(condition.drugs))
    if clue < len(condition.findings):
        finding = _expand(condition.findings[clue], note.rng)
        note.add_frame(note.rng.choice(phrases.IMPLIED), finding)
    else:
        drug = condition.drugs[clue - len(condition.findings)]
        note.add(note.rng.choice(phrases.MEDICATIONS), _expand(drug, note.rng))


def _frames(condition: Condition) -> Sequence[Frame]:
    return phrases.SOCIAL_HABIT if condition.code in phrases.HABITS else phrases.NAMED[condition.kind]


def _distractor_frames(rng: random.Random, condition: Condition) -> Sequence[Frame]:
    if condition.kind == "status":
        return phrases.NEGATED_STATUS
    frames = rng.choices(*_DISTRACTOR_KINDS)[0]
    if frames is phrases.OF_OLD and condition.kind != "acute":  # chronic ones do not pass
        return phrases.NEGATED
    return frames


def _name(rng: random.Random, condition: Condition) -> str:
    *spoken, title = condition.names
    if spoken and (condition.kind == "procedure" or rng.random() >= _P_TITLE):
        return rng.choice(spoken)
    return title


def _filler_pool(rng: random.Random) -> list[Frame]:
    """Filler sentences with their numbers filled in; a section with more weight has more of them."""
    pool = []
    for section, sentences in phrases.FILLER.items():
        n_variants = _FILLER_VARIANTS * _FILLER_WEIGHTS.get(section, 1)
        pool += [(section, _expand(rng.choice(sentences), rng)) for _ in range(n_variants)]
    for section in (phrases.HPI, phrases.COURSE):
        for _ in range(_FILLER_VARIANTS * _FILLER_WEIGHTS[section]):
            parts = (rng.choice(options) for options in phrases.NARRATIVE)
            pool.append((section, _expand(" ".join(parts) + ".", rng)))
    return pool


def _expand(text: str, rng: random.Random) -> str:
    """Put numbers in place of ranges such as {2-5}."""
    return _RANGE.sub(lambda match: str(rng.randint(int(match[1]), int(match[2]))), text)
