"""Words and phrases by which clinical text says that something is not so, not now, not sure or not the patient.

Tables only, with those of :mod:`pipeline.notes.trigger_patterns`; :mod:`pipeline.notes.context` applies them. A
trigger opens a scope before or behind it in its sentence, a stop closes scopes, a decoy looks like a trigger and is
none ("no change"). Where two overlap, the longer one counts. Phrases are matched word by word in any case.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

Kind = Literal["negated", "family", "historical", "uncertain"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class Rule(NamedTuple):
    """What a matched phrase does.

    Attributes:
        role: "before" and "behind" open a scope on that side, "around" on both; "stop" closes one; "decoy"
            only keeps shorter phrases from matching.
        kinds: what the scope is, or which scopes the stop closes.
        barriers: single words at which a scope before the phrase ends.
    """

    role: Literal["before", "behind", "around", "stop", "decoy"]
    kinds: tuple[Kind, ...] = ()
    barriers: frozenset[str] = frozenset()


# "fever and PE was ruled out" is about PE alone, "fever and chills were denied" about both.
_ONE = frozenset({",", "and", "with", "for", "by", ":"})
_MANY = frozenset({"with", "for", "by", ":"})
_OF_RELATIVE = frozenset({",", "with", "for", ":"})

RULES: dict[str, Rule] = {
    "decoy": Rule("decoy"),
    "negated behind": Rule("behind", ("negated",)),
    "negated one before": Rule("before", ("negated",), _ONE),
    "negated many before": Rule("before", ("negated",), _MANY),
    "family behind": Rule("behind", ("family",)),
    "family before": Rule("before", ("family",), _OF_RELATIVE),
    "historical behind": Rule("behind", ("historical",)),
    "historical before": Rule("before", ("historical",), _ONE),
    "uncertain behind": Rule("behind", ("uncertain",)),
    "uncertain before": Rule("before", ("uncertain",), _ONE),
    "uncertain around": Rule("around", ("uncertain",), _ONE),
}

_BE_ONE = ("is", "was", "has been")
_BE_MANY = ("are", "were", "have been")
_SEEN = (
    "absent", "denied", "excluded", "negative", "not appreciated", "not demonstrated", "not detected",
    "not evident", "not found", "not identified", "not noted", "not present", "not seen", "not visualized",
    "ruled out",
)  # fmt: skip
_SURELY = ("cannot be", "can't be", "could not be", "is not", "was not", "not")
_EXCLUDED = ("excluded", "ruled out", "entirely excluded", "completely excluded", "definitively excluded")
_PERSONS = (
    "he", "she", "they", "it", "we", "i", "you", "patient", "pt", "the patient", "this patient", "mother",
    "father", "there", "then", "now", "but",
)  # fmt: skip
_VERBS = ("is", "was", "were", "are", "has", "had", "have", "does", "did", "will", "remains", "remained")
_EARLIER = (
    "chest", "ct", "cxr", "day", "echo", "evaluation", "exam", "examination", "examinations", "exams", "film",
    "films", "image", "images", "imaging", "mri", "night", "radiograph", "radiographs", "report", "scan",
    "scans", "studies", "study", "to", "ultrasound", "visit", "visits", "x", "xray",
)  # fmt: skip


# What has just happened to a patient who is admitted for it.
_EVENTS = (
    "fall", "a fall", "mechanical fall", "mvc", "mva", "mvi", "assault", "trauma", "arrest", "cardiac arrest",
    "pea arrest", "overdose", "gsw",
)  # fmt: skip


def _split(text: str) -> list[str]:
    return [" ".join(phrase.split()) for phrase in text.split("|")]


PHRASES: dict[str, list[str]] = {
    "decoy": [
        *_split("""
            no change | no changes | no significant change | no significant changes | no interval change |
            no significant interval change | no increase | no decrease | no further | no improvement | no
            significant improvement | no worsening | no resolution | no recurrence | no doubt | no
            response | no reason | without change | without significant change | without improvement |
            without difficulty | without incident | without event | without further | without any further
            | without complication | without complications | not only | not just | not yet | not
            necessarily | not always | not certain | not sure | not clear | not well controlled | not
            controlled | not improved | not improving | not resolved | not changed | not significantly
            changed | not responding | not clinically | not tolerate | not compliant | not taking | not
            able to | not currently on | not on | not otherwise specified | not elsewhere classified |
            gram negative | gram - negative | non - negative
        """),
        *_split("""
            history of present illness | history of the present illness | history and physical | history
            obtained | history is | history per | history was | clinical history | social history |
            medical history | surgical history | poor historian | prior to | previous to | last previous |
            not previously
        """),
        *_split("""
            as soon as possible | if possible | when possible | possible to | not possible | as if | if
            needed | if any | if necessary | likely to be discharged | risk factors
        """),
        *(f"{when} {what}" for when in ("prior", "previous", "prior outside") for what in _EARLIER),
        *(f"{after} {what}" for after in ("s/p", "status post", "status - post") for what in _EVENTS),
        *(f"previously {seen}" for seen in ("demonstrated", "described", "identified", "noted", "seen")),
    ],
    "negated behind": [
        *(f"{be} {seen}" for be in (*_BE_ONE, *_BE_MANY) for seen in ("negative for", "ruled out for")),
        *_split("""
            no | not | n't | nor | neither | never | never had | without | w/o | without any | without
            evidence of | denies | denied | denying | deny | no evidence of | no evidence for | no sign of
            | no signs of | no history of | no h/o | no hx of | no prior history of | no past history of |
            no personal history of | denies history of | denies any history of | negative for | neg for |
            free of | absence of | lack of | lacks | lacking | ruled out for | rules out | has ruled out
            for | no complaints of | no complaint of | fails to reveal | failed to reveal | failed to show
            | no longer has | no longer having | unremarkable for | rather than | instead of | not due to
            | not secondary to | not related to | not consistent with | not have | not had | not show |
            not reveal | no suspicion for | no suspicion of | no concern for | low suspicion for | no
            suspicious | not suspicious for | not concerning for | declines
    """),
    ],
    "negated one before": [
        *(f"{be} {seen}" for be in _BE_ONE for seen in _SEEN),
        *(f"{be}{seen}" for be in ("", "came back ", "returned ") for seen in ("ruled out", "not seen")),
        *_split("came back negative|returned negative|not identified|not present|not found|not appreciated"),
    ],
    "negated many before": [f"{be} {seen}" for be in _BE_MANY for seen in _SEEN],
    "family behind": _split("""
        family history | family history of | family history significant for | family history is
        significant for | family history notable for | family history is notable for | family history
        positive for | family history is positive for | family history includes | family hx | family hx of
        | family h/o | fam hx | fh | fhx | fh of | fhx of | family members with | family member with |
        relatives with | maternal history of | paternal history of
    """),
    "family before": _split("""
        runs in the family | run in the family | runs in his family | runs in her family | run in his
        family | run in her family | in the family | in multiple family members | in several family
        members | on the maternal side | on the paternal side | on maternal side | on paternal side | on
        his mother 's side | on her mother 's side | on his father 's side | on her father 's side
    """),
    "historical behind": _split("""
        history of | h/o | hx of | hx | past history of | previous history of | prior history of | known
        history of | remote history of | distant history of | history significant for | history notable
        for | past medical history of | past medical history significant for | past medical history is
        significant for | past medical history notable for | past medical history includes | past surgical
        history of | pmh of | pmhx of | pmh significant for | pmh notable for | pmh includes | pmh | pmhx
        | s/p | status post | status - post | prior | previous | previously | previously had | previously
        diagnosed with | remote | former | formerly | childhood
    """),
    "historical before": _split("""
        in the past | in the remote past | in childhood | as a child | as an infant | in infancy | in his
        youth | in her youth | years prior | many years ago | several years ago | long ago
    """),
    "uncertain behind": [
        *_split("""
            whether | whether or not | favored to represent | possible | possibly | probable | probably |
            likely | most likely | very likely | suspected | suspect | suspects | suspecting | suspicious
            for | suspicion for | suspicion of | concern for | concerns for | concerning for | concerned
            for | c/f | question of | questionable | questionably | query | ? | rule out | ruling out |
            r/o | to rule out | evaluate for | to evaluate for | evaluation for | eval for | assess for |
            assessment for | look for | looking for | check for | screening for | screened for | worked up
            for | workup for | work - up for | may represent | may reflect | may be | may have | might be
            | might represent | might have | could be | could represent | could reflect | could have |
            suggests | suggest | suggesting | suggestive of | presumed | presumably | presumptive |
            presumptively | worrisome for | thought to be | felt to be | believed to be | differential
            includes | differential diagnosis includes | ddx includes | ddx
        """),
        *_split("""
            if | should you | in case of | in the event of | unless | return for | call for | watch for |
            monitor for | monitored for | monitoring for | at risk for | at risk of | high risk for | high
            risk of | risk for | risk of | prophylaxis for | prophylaxis against | to prevent | prevention
            of
        """),
        *_split("""
            cannot exclude | can't exclude | cannot rule out | can't rule out | could not exclude | could
            not rule out | unable to exclude | unable to rule out | does not exclude | do not exclude |
            not exclude | not rule out | not likely | less likely | unlikely to be | unlikely to represent
        """),
        *(
            f"{how} {why}"
            for how in ("likely", "most likely", "possibly", "probably", "presumably", "thought to be", "felt to be")
            for why in ("due to", "secondary to", "from", "related to", "because of", "consistent with")
        ),
        *(f"{may} be {why}" for may in ("may", "might", "could") for why in ("due to", "secondary to")),
    ],
    "uncertain before": [
        *(f"{be} {excluded}" for be in _SURELY for excluded in _EXCLUDED),
        *(
            f"{be} {how}"
            for be in (*_BE_ONE, *_BE_MANY)
            for how in ("suspected", "considered", "questioned", "unlikely", "less likely")
        ),
        *_split("""
            prophylaxis | ppx | in the differential | is in the differential | is a consideration | is a
            possibility | is of concern | was felt to be unlikely | felt to be unlikely | felt unlikely |
            felt less likely | seems unlikely
        """),
    ],
    "uncertain around": _split("versus|vs|vs.|unlikely"),
}

_STOPS: list[str] = [
    *_split("""
        but | however | although | though | except | except for | apart from | aside from | other than |
        besides | nevertheless | yet | whereas | while | which | who | because | because of | secondary to
        | due to | until | when | therefore | ; | consistent with | found to have | noted to have | was
        started on | started on | treated with
    """),
    *(f"{link} {person}" for link in (",", "and", "so") for person in _PERSONS),
    *(f"{link} {verb}" for link in (",", "and") for verb in _VERBS),
]
_STOPS_OF: dict[Kind, list[str]] = {
    "negated": _split("""
        + | despite | positive for | reports | reported | reporting | endorses | endorsed | complains | complained |
        complaining | admits | notable for | remarkable for | significant for | states | presents |
        presented | developed | improved | continue | continued | does have | did have | ruled in | in the
        setting of | now
    """),
    "historical": _split("""
        presents | presented | presenting | admitted | transferred | referred | comes | came | now | here
        | complaining | complains | evaluated for | p/w | c/o | developed | reports | reported | has | had
        | , with | with new | with acute | with worsening | with recent | with increasing | with
        persistent | with fever | with cough | on admission | for evaluation | for follow | for followup
    """),
    "uncertain": _split("""
        will | we | was given | were given | he | she | now | for which | so | plan
    """),
    "family": _split("""
        patient | the patient | pt | he | she | otherwise | infant | baby | newborn
    """),
}


def _stops() -> dict[tuple[Kind, ...], list[str]]:
    """Stop phrases by the kinds whose scopes they close; every phrase once."""
    closes = dict.fromkeys(_STOPS, KINDS)
    for kind in KINDS:
        for phrase in _STOPS_OF[kind]:
            kinds = closes.get(phrase, ())
            closes[phrase] = kinds if kind in kinds else (*kinds, kind)
    return {kinds: [phrase for phrase in closes if closes[phrase] == kinds] for kinds in closes.values()}


for _kinds, _some in _stops().items():
    RULES["stop " + " ".join(_kinds)] = Rule("stop", _kinds)
    PHRASES["stop " + " ".join(_kinds)] = _some
