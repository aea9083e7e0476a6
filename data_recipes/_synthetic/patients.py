"""Patients of the synthetic corpus: which conditions come together, and recur from stay to stay.

A patient has chronic conditions from one to three clusters, and every stay a reason from one acute cluster; links
add what usually follows (dialysis dependence to end stage renal disease, a transfusion to blood loss).
"""

from __future__ import annotations

import functools
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from data_recipes._synthetic.vocabulary import Condition, Vocabulary

# name, weight | codes with the probability that the cluster brings one; "A*3/B" is one of both, A more often
_CHRONIC = """
metabolic 30 | I10 .85, E78.5 .65, E11.9*4/E11.65*2/E11.22*2/E11.40*3 .5, E66.9 .25, K21.9 .2
heart 16 | I50.22/I50.32 .85, I25.10 .6, I10 .8, I48.91*2/I48.0/I48.20 .4, E78.5 .5
coronary 12 | I25.10 .95, E78.5 .8, I10 .7, K21.9 .2
kidney 12 | N18.30*4/N18.4*2/N18.6*3 .95, I10 .85, E11.22 .4
lung 15 | J44.9*5/J45.909 .95, J96.11 .25, G47.33 .15, K21.9 .2
liver 9 | F10.20 .85, K70.30*2/K70.31 .9, D69.6 .4
mind 15 | F32.A .75, F41.9 .6, K21.9 .25
bones 9 | M81.0 .75, I10 .5, E03.9 .4
rhythm 9 | I48.91*3/I48.0*2/I48.20 .95, I10 .6
various 18 | E03.9 .3, M10.9 .2, N40.1 .3, G47.33 .3, E66.9 .3, Z86.73 .15, D50.9 .25, D64.9 .2
cancer 3 | C34.90/C50.919 .95, E43 .3, D64.9 .4
"""
# name, weight | complaints | codes; the first is the principal diagnosis
_ACUTE = """
heart failure 14 | shortness of breath; leg swelling; weight gain | I50.23/I50.33 1, N17.9 .35, E87.6 .25, J96.01 .2
pneumonia 11 | cough; fever; shortness of breath | J18.9*5/J69.0*2 1, J96.01 .4, A41.9 .2, E87.1 .15
copd 10 | shortness of breath; wheezing; cough | J44.1*3/J44.0*2 1, J96.01/J96.21 .5, J18.9 .25
urosepsis 12 | confusion; fever; weakness | A41.9 .7, N39.0 .85, N17.9 .5, F05*2/G93.41 .35, E86.0 .2
bleeding 9 | black stools; dizziness; lightheadedness | K92.1/K92.2 1, D62 .6, D50.9 .2
hip 8 | hip pain; unable to walk; found down | S72.001A/S72.002A 1, F05 .2, N39.0 .12
coronary 7 | chest pain; chest pressure | I21.4 1, I25.10 .85
stroke 5 | facial droop; slurred speech; weakness | I63.9 1, I10 .6, J69.0 .12
alcohol 8 | confusion; tremor; abdominal distension | F10.239 .7, K70.31 .4, K76.82 .3, E87.6 .35, E87.1 .2
kidney 8 | weakness; poor appetite; nausea | N17.9 .95, E86.0 .55, E87.5 .35, E87.20 .3, E87.1 .2
sugar 4 | weakness; thirst; high blood sugar | E11.65 1, E86.0 .5, E87.1 .25
clot 5 | leg pain; chest pain; leg swelling | I26.99/I82.401/I82.402 1, Z79.01 .6
belly 6 | abdominal pain; vomiting; nausea | K80.00*2/K85.90*2/K56.609 1, E87.6 .2, E86.0 .2
skin 5 | leg redness; leg pain; fever | L03.115/L03.116 1, E66.9 .2
"""
# what a code (or every code that begins so) brings along
_LINKS = """
E11 | Z79.4 .35
I48 | Z79.01 .65
I25 | Z95.1/Z95.5 .3
N18.6 | Z99.2 .85
N18 | D63.1 .3
J44 | F17.210/Z87.891*2 .65
K70 | K76.6 .35
N39.0 | B96.20 .3
A41.9 | R65.20*2/R65.21 .45
S72 | W19.XXXA .8, D62 .4, M81.0 .4
I50.23 | Z66 .08
J69.0 | Z66 .15
"""
_PROCEDURES = """
N18.6 | 5A1D70Z .75
D62 | 30233N1 .55
J96.01 | 5A1945Z .25
J96.21 | 5A1945Z .2
5A1945Z | 0BH17EZ .75, 3E0G76Z .3
I21.4 | 4A023N7 .6, B2111ZZ .7, 027034Z .45
K70.31 | 0W9G3ZZ .5
K92 | 0DJ08ZZ .6
S72.001A | 0SRR0JZ/0QS604Z .9
S72.002A | 0SRS0JZ/0QS704Z .9
K80.00 | 0FT44ZZ .6
R65.21 | 02HV33Z .55
"""
# Of these only one is coded at a stay: the acute form instead of the chronic one, one type instead of another.
_ONE_OF = {
    **{category: category for category in ("I50", "E11", "J44", "J96", "N18", "I48", "K70", "S72", "L03", "I82")},
    **{"I10": "I10", "I11": "I10", "I12": "I10", "I13": "I10"},
    **{"D63": "anemia", "D64": "anemia", "D50": "anemia", "F17": "tobacco", "Z87": "tobacco", "K92": "K92"},
    **{"F05": "confusion", "G93": "confusion", "R65": "R65"},
}  # fmt: skip
# Hypertension is coded together with heart failure and kidney disease: (kidney, heart failure) -> code.
_HYPERTENSION = {
    ("N18.6", True): "I13.2",
    ("N18", True): "I13.0",
    ("N18.6", False): "I12.0",
    ("N18", False): "I12.9",
    (None, True): "I11.0",
}
_ADMISSIONS = ((1, 2, 3, 4), (58, 23, 12, 7))
_CLUSTERS_OF_PATIENT = ((1, 2, 3), (35, 40, 25))
_N_TAIL = ((0, 1, 2, 3, 4, 6), (20, 25, 20, 15, 12, 8))
_P_PERSISTS = 0.9


class _Term(NamedTuple):
    codes: tuple[str, ...]
    weights: tuple[float, ...]
    probability: float


class _Cluster(NamedTuple):
    weight: float
    complaints: tuple[str, ...]
    terms: tuple[_Term, ...]


@dataclass(frozen=True)
class Stay:
    """What one admission is about.

    Attributes:
        complaint: in the patient's words.
        diagnoses: principal first, then acute, then chronic ones.
        procedures: in order.
    """

    complaint: str
    diagnoses: tuple[Condition, ...]
    procedures: tuple[Condition, ...]


def draw_stays(vocabulary: Vocabulary, rng: random.Random, sex: str) -> list[Stay]:
    """The admissions of one patient, one to four."""
    chronic, acute = _clusters(_CHRONIC), _clusters(_ACUTE)
    n_stays = rng.choices(*_ADMISSIONS)[0]
    persistent: list[str] = []
    for cluster in rng.choices(chronic, _weights(chronic), k=rng.choices(*_CLUSTERS_OF_PATIENT)[0]):
        persistent += _draw(rng, cluster.terms)
    persistent += [one.code for one in _draw_tail(vocabulary, rng) if one.kind == "chronic"]
    stays: list[Stay] = []
    while len(stays) < n_stays:
        reason = rng.choices(acute, _weights(acute))[0]
        codes = _draw(rng, reason.terms)
        codes += [code for code in persistent if rng.random() < _P_PERSISTS]
        codes += [one.code for one in _draw_tail(vocabulary, rng)]
        codes = _settle([*codes, *_follow(rng, codes, _links(_LINKS))], vocabulary, sex)
        procedures = dict.fromkeys(_follow(rng, codes, _links(_PROCEDURES)))
        if codes:
            stays.append(
                Stay(
                    complaint=rng.choice(reason.complaints),
                    diagnoses=tuple(vocabulary.diagnoses[code] for code in codes),
                    procedures=tuple(vocabulary.procedures[code] for code in procedures),
                )
            )
    return stays


def count_codes(vocabulary: Vocabulary, *, n_patients: int = 1000) -> Counter[str]:
    """How often each code of a vocabulary comes up in the stays of some patients."""
    rng = random.Random(0)
    counts: Counter[str] = Counter()
    for _ in range(n_patients):
        for stay in draw_stays(vocabulary, rng, rng.choice("FM")):
            counts.update(condition.code for condition in stay.diagnoses)
    return counts


def group_of(code: str) -> str:
    """What only one code of is given at a stay: the code itself, or the group of its neighbours."""
    return _ONE_OF.get(code[:3], code)


def _draw(rng: random.Random, terms: Iterable[_Term]) -> list[str]:
    return [rng.choices(term.codes, term.weights)[0] for term in terms if rng.random() < term.probability]


def _draw_tail(vocabulary: Vocabulary, rng: random.Random) -> list[Condition]:
    """Some conditions of the tail; half of them from the first one's chapter."""
    drawn: list[Condition] = []
    for _ in range(rng.choices(*_N_TAIL)[0] if vocabulary.tail else 0):
        chapter = drawn[0].code[0] if drawn and rng.random() < 0.5 else ""
        conditions, cumulative_weights = vocabulary.tail_of_chapter(chapter)
        drawn += rng.choices(conditions, cum_weights=cumulative_weights)
    return drawn


def _follow(rng: random.Random, codes: Sequence[str], links: Iterable[tuple[str, Sequence[_Term]]]) -> list[str]:
    """What links bring to some codes, and to what they have brought."""
    brought: list[str] = []
    for start, terms in links:
        if any(code.startswith(start) for code in (*codes, *brought)):
            brought += _draw(rng, terms)
    return brought


def _settle(codes: Iterable[str], vocabulary: Vocabulary, sex: str) -> list[str]:
    """The codes that a coder would give: of neighbours the first, none twice, hypertension with its company."""
    kept: dict[str, str] = {}
    for code in codes:
        condition = vocabulary.diagnoses.get(code)
        if condition is not None and condition.sex in (None, sex):
            kept.setdefault(group_of(code), code)
    combined = _hypertension(kept.values())
    if combined in vocabulary.diagnoses and "I10" in kept:
        kept["I10"] = combined
    return list(kept.values())


def _hypertension(codes: Iterable[str]) -> str:
    present = set(codes)
    has_heart_failure = any(code.startswith("I50") for code in present)
    has_kidney_disease = any(code.startswith("N18") for code in present)
    kidney = "N18.6" if "N18.6" in present else "N18" if has_kidney_disease else None
    return _HYPERTENSION.get((kidney, has_heart_failure), "I10")


def _weights(clusters: Sequence[_Cluster]) -> list[float]:
    return [cluster.weight for cluster in clusters]


@functools.cache
def _clusters(table: str) -> tuple[_Cluster, ...]:
    clusters = []
    for line in table.strip().splitlines():
        head, *complaints, terms = (part.strip() for part in line.split("|"))
        words = tuple(one.strip() for one in complaints[0].split(";")) if complaints else ()
        clusters.append(_Cluster(float(head.split()[-1]), words, _terms(terms)))
    return tuple(clusters)


@functools.cache
def _links(table: str) -> tuple[tuple[str, tuple[_Term, ...]], ...]:
    pairs = (line.split("|") for line in table.strip().splitlines())
    return tuple((start.strip(), _terms(terms)) for start, terms in pairs)


def _terms(text: str) -> tuple[_Term, ...]:
    terms = []
    for item in text.split(","):
        alternatives, probability = item.split()
        pairs = [one.partition("*") for one in alternatives.split("/")]
        terms.append(
            _Term(tuple(code for code, _, _ in pairs), tuple(float(n or 1) for _, _, n in pairs), float(probability))
        )
    return tuple(terms)
