"""Sentences of the synthetic notes: frames for conditions, frames for distractors, and what fills the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Frame = tuple[str, str]
"""A section and a sentence in it. ``{x}`` is the name of a condition, ``{X}`` the same at the start of a sentence."""

SECTIONS = (
    "Chief Complaint", "Major Surgical or Invasive Procedure", "History of Present Illness",
    "Past Medical History", "Social History", "Family History", "Physical Exam", "Pertinent Results",
    "Brief Hospital Course", "Medications on Admission", "Discharge Medications", "Discharge Diagnosis",
    "Discharge Condition", "Discharge Instructions",
)  # fmt: skip
"""In the order of a note."""

HPI, PMH, SOCIAL, FAMILY = SECTIONS[2:6]
EXAM, RESULTS, COURSE = SECTIONS[6:9]
PROCEDURE, DIAGNOSIS, CONDITION, INSTRUCTIONS = SECTIONS[1], *SECTIONS[11:]
MEDICATIONS = SECTIONS[9:11]

PRINCIPAL: Sequence[Frame] = (
    (DIAGNOSIS, "Primary: {x}"),
    (DIAGNOSIS, "{X}"),
    (HPI, "Admitted with {x}."),
    (COURSE, "# {X}: main problem of this stay."),
)
NAMED: Mapping[str, Sequence[Frame]] = {
    "chronic": (
        (PMH, "- {x}"),
        (PMH, "- {x}"),
        (PMH, "- h/o {x}"),
        (HPI, "PMH notable for {x}."),
        (HPI, "Has a history of {x}."),
        (COURSE, "# {X}: chronic, home regimen continued."),
        (COURSE, "# {X}."),
        (DIAGNOSIS, "- {x}"),
    ),
    "acute": (
        (COURSE, "# {X}: treated, improved."),
        (COURSE, "Stay was c/b {x}."),
        (COURSE, "# {X}."),
        (HPI, "Found to have {x} in the ED."),
        (RESULTS, "Findings consistent with {x}."),
        (DIAGNOSIS, "- {x}"),
    ),
    "status": (
        (PMH, "- {x}"),
        (HPI, "Patient is {x}."),
        (COURSE, "# {X}."),
    ),
    "procedure": (
        (PROCEDURE, "{X}"),
        (PROCEDURE, "{X}"),
        (COURSE, "Underwent {x}."),
        (COURSE, "Required {x}, tolerated well."),
    ),
}
IMPLIED: Sequence[Frame] = ((HPI, "{X}."), (RESULTS, "{X}."), (COURSE, "{X}."))
HABITS = ("F10.20", "F17.210", "Z87.891")
"""Codes that notes speak of under Social History."""
SOCIAL_HABIT: Sequence[Frame] = ((SOCIAL, "{X}."), (SOCIAL, "{X}."), (PMH, "- {x}"))

# Distractors: the condition is not one of this stay. {y} is a second such condition, {p} the principal diagnosis.
NEGATED: Sequence[Frame] = (
    (HPI, "Denies {x}."),
    (HPI, "No history of {x} or {y}."),
    (HPI, "Never had {x}."),
    (PMH, "- no {x}"),
    (RESULTS, "Negative for {x}."),
    (RESULTS, "No evidence of {x}."),
    (COURSE, "{X} was ruled out."),
    (COURSE, "No signs of {x} or {y}."),
    (COURSE, "Work-up for {x} was negative."),
)
NEGATED_STATUS: Sequence[Frame] = (
    (HPI, "Not {x}."),
    (PMH, "- never {x}"),
    (COURSE, "Not {x} at any time."),
    (FAMILY, "Father is {x}."),
)
OF_FAMILY: Sequence[Frame] = (
    (FAMILY, "Mother with {x}."),
    (FAMILY, "Father with {x} and {y}."),
    (FAMILY, "Sister: {x}."),
    (FAMILY, "Brother died of {x}."),
    (HPI, "Son has {x}."),
    (HPI, "Partner is treated for {x}."),
)
OF_OLD: Sequence[Frame] = (
    (PMH, "- {x} in ___, resolved"),
    (PMH, "- remote {x}, fully recovered"),
    (HPI, "Was treated for {x} years ago without recurrence."),
    (HPI, "Prior stay at ___ for {x}, since resolved."),
)
POSSIBLE: Sequence[Frame] = (
    (INSTRUCTIONS, "Call us for signs of {x}."),
    (INSTRUCTIONS, "Your PCP may screen you for {x}."),
    (COURSE, "Initially treated for {x}, but this was {p}."),
    (COURSE, "At risk for {x}, monitored."),
)
NOT_DONE: Sequence[Frame] = (
    (COURSE, "Did not need {x}."),
    (COURSE, "Declined {x}."),
    (HPI, "Had {x} at ___ years ago."),
    (COURSE, "{X} was considered but deferred."),
)

FILLER: dict[str, Sequence[str]] = {
    HPI: (
        "Symptoms began {2-9} days ago and slowly got worse.",
        "Patient was last well about {2-6} weeks ago.",
        'Told the triage nurse "I just do not feel right."',
        "Initial vitals: T {97-99}.{0-9}, HR {64-98}, BP {108-138}/{60-84}, RR {14-20}.",
        "Lives at home and manages most tasks alone.",
        "On the floor patient was comfortable and gave a clear history.",
        "Review of systems otherwise unremarkable.",
        "Family at the bedside helped with the history.",
    ),
    EXAM: (
        "VS: T {97-99}.{0-9}, HR {62-96}, BP {106-138}/{58-84}, RR {14-20}, SpO2 {95-99}% RA",
        "General: alert, in no distress",
        "HEENT: sclera anicteric, oropharynx clear",
        "Neck: supple, JVP {6-9} cm",
        "CV: normal S1 and S2, no murmurs",
        "Lungs: good air movement on both sides",
        "Abdomen: soft, nontender, bowel sounds present",
        "Ext: warm, well perfused, {1-2}+ pulses, right and left",
        "Neuro: moves all extremities, face symmetric",
        "Skin: no rashes",
    ),
    RESULTS: (
        "___ 0{4-9}:{10-59}AM BLOOD WBC-{5-9}.{0-9} RBC-4.{0-9} Hgb-13.{0-9} Hct-{38-44}.{0-9} Plt-{160-330}",
        "___ 0{4-9}:{10-59}AM BLOOD Glucose-{82-118} UreaN-{9-19} Creat-0.{6-9} Na-{136-143} K-4.{0-7}",
        "___ 0{4-9}:{10-59}AM BLOOD Calcium-9.{0-6} Phos-3.{0-9} Mg-2.{0-2}",
        "___ 0{4-9}:{10-59}AM BLOOD ALT-{14-34} AST-{14-34} AlkPhos-{50-98} TotBili-0.{3-9}",
        "CXR: lines in place, stable appearance compared with ___.",
        "ECG: rate {62-92}, QTc {400-445}, similar to prior.",
        "MRSA screen: no growth to date.",
        "TTE: image quality adequate, valves normal, reviewed by cardiology.",
    ),
    COURSE: (
        "Physical therapy saw the patient and recommended discharge home.",
        "Diet was advanced as tolerated.",
        "Pain was controlled with acetaminophen.",
        "Home medications were reviewed with pharmacy.",
        'Patient reported feeling "much better" on day {2-5}.',
        "Electrolytes were checked daily and repleted as needed.",
        "Case management arranged follow up within {1-2} weeks.",
        "TRANSITIONAL ISSUES: recheck labs in {1-2} weeks.",
        "Subcutaneous heparin was given while in bed.",
        "Overnight events: none.",
    ),
    MEDICATIONS[0]: (
        "acetaminophen 650 mg PO Q6H:PRN",
        "docusate sodium 100 mg PO BID",
        "senna 8.6 mg PO BID:PRN",
        "multivitamin 1 tab PO DAILY",
        "vitamin D 1000 units PO DAILY",
        "melatonin 3 mg PO QHS",
    ),
    MEDICATIONS[1]: (
        "polyethylene glycol 17 g PO DAILY:PRN",
        "acetaminophen 650 mg PO Q6H:PRN",
        "bisacodyl 10 mg PR QHS:PRN",
        "lidocaine patch 1 patch TD QAM",
        "calcium carbonate 500 mg PO TID",
    ),
    CONDITION: (
        "Mental Status: clear and coherent.",
        "Activity: ambulatory, independent.",
        "Level of consciousness: alert and interactive.",
        "Activity: out of bed with assistance.",
    ),
    INSTRUCTIONS: (
        "Dear ___, it was a pleasure to care for you at ___.",
        "Please take your medicines as listed and keep your appointments.",
        "Weigh yourself every morning.",
        "We wish you all the best. Your ___ team",
        "Please bring this letter to your next visit.",
        "You may shower, and return to your usual diet.",
    ),
}
"""What any patient's note may say; it implies no code."""

NARRATIVE: Sequence[Sequence[str]] = (
    (
        "On the morning of ___", "Later that day", "By hospital day {2-9}", "Overnight", "On arrival to the floor",
        "Before transfer", "After rounds", "During the second night", "At the time of discharge", "In the afternoon",
    ),
    (
        "the primary team", "Dr. ___", "the covering resident", "nursing", "the consulting service", "the pharmacist",
        "the social worker", "the nutritionist", "the attending", "the case manager", "speech therapy",
    ),
    (
        "reviewed", "discussed", "updated", "went over", "documented", "checked again", "simplified", "explained",
        "confirmed", "followed", "adjusted", "summarized",
    ),
    (
        "the plan of care", "the home medication list", "the results of the day", "the diet order",
        "the goals of this stay", "the outside records", "the schedule of visits", "the imaging from ___",
        "the intake and output", "the exam findings", "the overnight vitals", "the follow up labs",
    ),
    (
        "with the family", "at the bedside", "by telephone", "with the rehab facility", "in the chart",
        "with the outpatient clinic", "twice", "without changes", "and agreed on next steps", "before noon",
        "within {2-9} hours", "for {10-55} minutes", "with an interpreter",
    ),
)  # fmt: skip
"""Parts of a sentence, to be put together by chance, so that long notes do not repeat themselves."""

IF_EMPTY: Mapping[str, Sequence[str]] = {
    PROCEDURE: ("None",),
    HPI: ("See chief complaint.",),
    PMH: ("None known", "See above"),
    SOCIAL: ("Retired ___, lives with spouse.", "Lives alone.", "Lives with daughter.", "Works as a ___."),
    FAMILY: ("Non-contributory.", "Not known."),
    EXAM: ("Unremarkable", "Alert, in no distress"),
    RESULTS: ("Reviewed", "See below"),
    COURSE: ("Uneventful.",),
    MEDICATIONS[0]: ("None", "See list"),
    MEDICATIONS[1]: ("Unchanged", "See list"),
    DIAGNOSIS: ("See hospital course", "As above"),
    CONDITION: ("Stable", "Good"),
    INSTRUCTIONS: ("Please see your PCP.", "Take your medicines as listed."),
}
"""What stands in a section about which there is nothing to say."""

ALLERGIES = ("No Known Allergies / Adverse Drug Reactions", "Penicillins", "Sulfa", "Codeine", "shellfish derived")
SERVICES = ("MEDICINE", "MEDICINE", "MEDICINE", "SURGERY", "NEUROLOGY", "ORTHOPAEDICS", "CARDIOTHORACIC")
