"""Titles of the ICD-9-CM diagnosis codes of the synthetic corpus; an indented line continues the one above."""

from __future__ import annotations

ICD9_TITLES = """
038.9 Unspecified septicemia
041.49 Other and unspecified Escherichia coli [E. coli]
162.9 Malignant neoplasm of bronchus and lung, unspecified
174.9 Malignant neoplasm of breast (female), unspecified
244.9 Unspecified acquired hypothyroidism
250.00 Diabetes mellitus without mention of complication, type II or unspecified type, not stated as
  uncontrolled
250.02 Diabetes mellitus without mention of complication, type II or unspecified type, uncontrolled
250.40 Diabetes with renal manifestations, type II or unspecified type, not stated as uncontrolled
250.60 Diabetes with neurological manifestations, type II or unspecified type, not stated as uncontrolled
262 Other severe protein-calorie malnutrition
272.4 Other and unspecified hyperlipidemia
274.9 Gout, unspecified
276.1 Hyposmolality and/or hyponatremia
276.2 Acidosis
276.51 Dehydration
276.7 Hyperpotassemia
276.8 Hypopotassemia
278.00 Obesity, unspecified
280.9 Iron deficiency anemia, unspecified
285.1 Acute posthemorrhagic anemia
285.21 Anemia in chronic kidney disease
285.9 Anemia, unspecified
287.5 Thrombocytopenia, unspecified
291.81 Alcohol withdrawal
293.0 Delirium due to conditions classified elsewhere
300.00 Anxiety state, unspecified
303.90 Other and unspecified alcohol dependence, unspecified
305.1 Tobacco use disorder
311 Depressive disorder, not elsewhere classified
327.23 Obstructive sleep apnea (adult)(pediatric)
348.31 Metabolic encephalopathy
357.2 Polyneuropathy in diabetes
401.9 Unspecified essential hypertension
402.91 Unspecified hypertensive heart disease with heart failure
403.90 Hypertensive chronic kidney disease, unspecified, with chronic kidney disease stage I through
  stage IV, or unspecified
403.91 Hypertensive chronic kidney disease, unspecified, with chronic kidney disease stage V or end
  stage renal disease
404.91 Hypertensive heart and chronic kidney disease, unspecified, with heart failure and with
  chronic kidney disease stage I through stage IV, or unspecified
404.93 Hypertensive heart and chronic kidney disease, unspecified, with heart failure and chronic
  kidney disease stage V or end stage renal disease
410.71 Subendocardial infarction, initial episode of care
414.01 Coronary atherosclerosis of native coronary artery
415.19 Other pulmonary embolism and infarction
427.31 Atrial fibrillation
428.22 Chronic systolic heart failure
428.23 Acute on chronic systolic heart failure
428.32 Chronic diastolic heart failure
428.33 Acute on chronic diastolic heart failure
434.91 Cerebral artery occlusion, unspecified with cerebral infarction
453.40 Acute venous embolism and thrombosis of unspecified deep vessels of lower extremity
486 Pneumonia, organism unspecified
491.21 Obstructive chronic bronchitis with (acute) exacerbation
491.22 Obstructive chronic bronchitis with acute bronchitis
493.90 Asthma, unspecified type, unspecified
496 Chronic airway obstruction, not elsewhere classified
507.0 Pneumonitis due to inhalation of food or vomitus
518.81 Acute respiratory failure
518.83 Chronic respiratory failure
518.84 Acute and chronic respiratory failure
530.81 Esophageal reflux
560.9 Unspecified intestinal obstruction
571.2 Alcoholic cirrhosis of liver
572.2 Hepatic encephalopathy
572.3 Portal hypertension
574.00 Calculus of gallbladder with acute cholecystitis, without mention of obstruction
577.0 Acute pancreatitis
578.1 Blood in stool
578.9 Hemorrhage of gastrointestinal tract, unspecified
584.9 Acute kidney failure, unspecified
585.3 Chronic kidney disease, Stage III (moderate)
585.4 Chronic kidney disease, Stage IV (severe)
585.6 End stage renal disease
599.0 Urinary tract infection, site not specified
600.01 Hypertrophy (benign) of prostate with urinary obstruction and other lower urinary tract
  symptoms (LUTS)
682.6 Cellulitis and abscess of leg, except foot
733.00 Osteoporosis, unspecified
785.52 Septic shock
789.59 Other ascites
820.8 Closed fracture of unspecified part of neck of femur
995.92 Severe sepsis
E888.9 Unspecified fall
V12.54 Personal history of transient ischemic attack (TIA), and cerebral infarction without residual
  deficits
V15.82 Personal history of tobacco use
V45.11 Renal dialysis status
V45.81 Aortocoronary bypass status
V45.82 Percutaneous transluminal coronary angioplasty status
V49.86 Do not resuscitate status
V58.61 Long-term (current) use of anticoagulants
V58.67 Long-term (current) use of insulin
"""
