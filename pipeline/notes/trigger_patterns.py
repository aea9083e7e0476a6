"""Triggers, stops and decoys that no list of phrases can hold: patterns of words, as spaCy's Matcher reads them.

By the names of the rules in :mod:`pipeline.notes.triggers`, which says what they do.
"""

from __future__ import annotations

from typing import Any

_RELATIVES = [
    "mother", "father", "mom", "dad", "parents", "parent", "sister", "sisters", "brother", "brothers", "sibling",
    "siblings", "son", "sons", "daughter", "daughters", "aunt", "aunts", "uncle", "uncles", "grandmother",
    "grandfather", "grandparent", "grandparents", "cousin", "cousins", "niece", "nephew", "mgm", "mgf", "pgm",
    "pgf", "wife", "husband", "relative", "relatives",
]  # fmt: skip
_RELATIVE: dict[str, Any] = {"LOWER": {"IN": _RELATIVES}}
_WITH: dict[str, Any] = {"LOWER": {"IN": ["with", "w/"]}}
_HAS = ["had", "has", "have", "with", "w/", "died", "deceased", "diagnosed", "suffered", "suffers", "developed"]
_TELLS = [
    "brought", "called", "noticed", "noted", "observed", "reported", "given", "gave", "tried", "stated", "said",
    "concerns", "concern", "questions",
]  # fmt: skip
_SOME: dict[str, Any] = {"LOWER": {"REGEX": r"^(?:\d.*|few|several|couple|two|three|four|five|six|ten|many)$"}}
_DURATION = {"LOWER": {"REGEX": r"(?:^|-)(?:hours?|hrs?|days?|weeks?|wks?|months?|mos?|years?|yrs?|nights?)$"}}

PATTERNS: dict[str, list[list[dict[str, Any]]]] = {
    "decoy": [
        [{"LOWER": {"IN": ["wife", "husband"]}}, _WITH],  # who are not of the same blood
        [{"LOWER": {"IN": ["by", "to"]}}, {"LOWER": {"IN": ["his", "her", "the"]}, "OP": "?"}, _RELATIVE, _WITH],
        # "three day history of cough" is the illness of today
        [_DURATION, {"ORTH": {"IN": ["'", "’"]}, "OP": "?"}, {"LOWER": {"IN": ["history", "hx"]}}, {"LOWER": "of"}],
        [_RELATIVE, {"LOWER": {"IN": ["had", "has", "have"]}}, {"LOWER": {"IN": _TELLS}}],
        # "in the past 6 months" is now; VS with a number are vital signs
        [{"LOWER": "in"}, {"LOWER": "the"}, {"LOWER": {"IN": ["past", "last"]}}, _SOME],
        [{"LOWER": "vs"}, {"TEXT": {"REGEX": r"^(?:[:\d]|-$)"}}],
    ],
    "family behind": [
        [_RELATIVE, {"LOWER": {"IN": ["also", "both", "is", "was", "were"]}, "OP": "?"}, {"LOWER": {"IN": _HAS}}],
        [_RELATIVE, {"LOWER": "died"}, {"LOWER": {"IN": ["of", "from", "at"]}}],
        [_RELATIVE, {"ORTH": {"IN": [":", "-", "--", "–"]}}],
    ],
    "family before": [
        [
            {"LOWER": "in"},
            {"LOWER": {"IN": ["his", "her", "the", "their", "a", "both", "patient"]}, "OP": "?"},
            {"LOWER": "'s", "OP": "?"},
            {"LOWER": {"IN": ["maternal", "paternal", "older", "younger"]}, "OP": "?"},
            _RELATIVE,
        ],
        [{"ORTH": "("}, {"LOWER": {"IN": ["maternal", "paternal"]}, "OP": "?"}, _RELATIVE, {"ORTH": ")"}],
    ],
    "uncertain before": [  # "infection is likely."; "is likely viral" is about what follows
        [
            {"LOWER": {"IN": ["is", "was", "are", "were"]}},
            {"LOWER": {"IN": ["likely", "possible", "probable"]}},
            {"IS_PUNCT": True},
        ],
    ],
    "negated behind": [[{"ORTH": "("}, {"ORTH": "-"}, {"ORTH": ")"}]],
    "negated one before": [  # "HIV negative.", "C. difficile toxin: negative", but not "triple negative cancer"
        [{"LOWER": {"IN": ["negative", "neg"]}}, {"IS_PUNCT": True}],
        [{"ORTH": ":"}, {"LOWER": {"IN": ["negative", "neg"]}}],
    ],
    "uncertain behind": [
        [
            {"LOWER": {"IN": ["return", "come"]}},
            {"LOWER": "back", "OP": "?"},
            {"LOWER": "to"},
            {"LOWER": {"IN": ["the", "your"]}, "OP": "?"},
            {"LOWER": {"IN": ["ed", "er", "hospital", "emergency"]}},
            {"LOWER": {"IN": ["room", "department"]}, "OP": "?"},
            {"LOWER": {"IN": ["for", "with"]}},
        ],
    ],
    "historical before": [
        [
            {**_SOME, "OP": "?"},
            {"LOWER": {"IN": ["years", "yrs", "months", "decades"]}},
            {"LOWER": {"IN": ["ago", "prior"]}},
        ],
        [{"LOWER": "in"}, {"TEXT": {"REGEX": r"^(?:19|20)\d\d$"}}],
    ],
}  # fmt: skip
