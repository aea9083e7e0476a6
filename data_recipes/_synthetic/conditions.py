"""What the synthetic corpus knows about diagnoses: how notes name them, and what implies them.

Invented for this corpus from general knowledge; taken from no patient and no data set; no advice on coding.
Three lines for each code, the codes that the smallest corpora need first:

- ICD-10-CM code; ICD-9-CM code or codes of the same condition (joined by ``+``); kind: chronic, acute or
  status; optionally the only sex (F or M) that can have it;
- names, synonyms and abbreviations that notes use for it;
- what implies it without naming it: findings, and drugs (``rx``); ``{a-b}`` stands for a random number.
"""

from __future__ import annotations

DIAGNOSES = """
I10 401.9 chronic
hypertension; HTN; high blood pressure; essential hypertension
rx lisinopril {10-40} mg PO DAILY; rx amlodipine 5 mg PO DAILY; BP {165-195}/{95-105} on repeat measurements
E78.5 272.4 chronic
hyperlipidemia; HLD; dyslipidemia; high cholesterol
rx atorvastatin 40 mg PO QPM; rx simvastatin 20 mg PO QPM; LDL {150-190}
E11.9 250.00 chronic
type 2 diabetes; DM2; T2DM; diet-controlled DM2; diabetes mellitus type II
rx metformin 500 mg PO BID; A1c 6.{5-9}
I25.10 414.01 chronic
coronary artery disease; CAD; two-vessel CAD; ischemic heart disease
rx nitroglycerin 0.4 mg SL PRN; stress test with a reversible inferior defect; rx clopidogrel 75 mg PO DAILY
N17.9 584.9 acute
acute kidney injury; AKI; acute renal failure; ARF
Cr {2-4}.{1-9} from a baseline of 0.9; creatinine rose to {2-4}.{1-9} and fell with IV fluids
K21.9 530.81 chronic
GERD; acid reflux; gastroesophageal reflux
rx omeprazole 20 mg PO DAILY; rx pantoprazole 40 mg PO Q24H
N39.0 599.0 acute
UTI; urinary tract infection; urosepsis source; complicated UTI
UA with large leuks, nitrite positive, {50-180} WBC; rx nitrofurantoin 100 mg PO BID; dysuria, treated
I50.33 428.33 acute
acute on chronic diastolic heart failure; acute on chronic HFpEF; decompensated diastolic CHF
EF {55-65}%, proBNP {6000-9900}, volume overloaded, diuresed {4-9} L
I50.23 428.23 acute
acute on chronic systolic heart failure; acute on chronic HFrEF; decompensated systolic CHF
EF {15-35}%, proBNP {6000-9900}, volume overloaded, diuresed {4-9} L
I50.32 428.32 chronic
chronic diastolic heart failure; HFpEF, compensated; chronic diastolic CHF
EF {55-65}% with impaired relaxation, euvolemic on home torsemide
I50.22 428.22 chronic
chronic systolic heart failure; HFrEF, compensated; chronic systolic CHF
EF {20-35}%, euvolemic on home torsemide; rx sacubitril-valsartan 24-26 mg PO BID
J44.9 496 chronic
COPD; chronic obstructive pulmonary disease; emphysematous COPD
rx tiotropium 18 mcg IH DAILY; FEV1 {35-60}% predicted, barrel chest
J44.1 491.21 acute
COPD exacerbation; AECOPD; acute flare of COPD
wheezing, treated with prednisone 40 mg x5 days, azithromycin and standing nebs
J18.9 486 acute
pneumonia; PNA; community acquired pneumonia; CAP
RLL consolidation on CXR; rx levofloxacin 750 mg PO DAILY; fever, productive cough, new infiltrate
J96.01 518.81 acute
acute hypoxic respiratory failure; acute hypoxemic respiratory failure; AHRF
SpO2 {78-85}% on RA, required high flow, weaned to room air; PaO2 {48-57} on arrival
J96.11 518.83 chronic
chronic hypoxic respiratory failure; chronic hypoxemia on home O2
uses {2-4} L of oxygen at home at baseline
J96.21 518.84 acute
acute on chronic hypoxic respiratory failure; acute on chronic hypoxemic respiratory failure
on {2-3} L at home, needed {6-10} L here, back to home oxygen by discharge
A41.9 038.9 acute
sepsis; septicemia
lactate {3-6}.{0-9}, WBC {16-28}, T 102.{1-9}, given 30 cc/kg and broad antibiotics
R65.20 995.92 acute
severe sepsis without shock; sepsis with organ dysfunction
end organ dysfunction in the setting of infection, never needed pressors
R65.21 785.52 acute
septic shock; severe sepsis with shock
norepinephrine for MAP above 65 after adequate fluids in the setting of infection
I48.91 427.31 chronic
atrial fibrillation; AF; afib
irregularly irregular rhythm, rate controlled; rx diltiazem ER 120 mg PO DAILY
I48.0 427.31 chronic
paroxysmal atrial fibrillation; PAF; paroxysmal AF
intermittent irregular rhythm on telemetry, now in sinus; rx flecainide 50 mg PO BID
Z79.01 V58.61 status
on anticoagulation; chronic anticoagulation; on long term anticoagulant
rx apixaban 5 mg PO BID; rx warfarin {2-5} mg PO DAILY16; INR goal 2-3
E11.22 250.40 chronic
diabetic nephropathy; DM2 c/b nephropathy; DM2 with diabetic CKD
A1c {7-9}.{0-9} with proteinuria {2-4} g
E11.65 250.02 chronic
DM2 with hyperglycemia; poorly controlled DM2; uncontrolled type 2 diabetes
A1c {10-13}.{0-9}, fingersticks in the {300-400}s
E11.40 250.60+357.2 chronic
DM2 c/b neuropathy; diabetic neuropathy; type 2 diabetes with neuropathy
A1c {7-9}.{0-9}, stocking-glove numbness; monofilament sensation absent in both feet, on metformin
Z79.4 V58.67 status
insulin dependent; on long term insulin; insulin-requiring
rx insulin glargine {12-40} units SC QHS; rx Humalog sliding scale SC QACHS
N18.30 585.3 chronic
CKD stage 3; CKD III; chronic kidney disease, stage 3
baseline Cr 1.{5-7}, eGFR {38-55} for years
N18.4 585.4 chronic
CKD stage 4; CKD IV; chronic kidney disease, stage 4
baseline Cr 2.{4-9}, eGFR {17-27} for years
N18.6 585.6 chronic
ESRD; end stage renal disease; end stage kidney disease
rx sevelamer 800 mg PO TID W/MEALS; anuric, AV fistula with thrill
I12.9 403.90 chronic
hypertension; HTN; hypertensive nephropathy; hypertensive kidney disease
rx amlodipine 10 mg PO DAILY; BP {160-185}/{90-100}; rx labetalol 200 mg PO BID
I11.0 402.91 chronic
hypertension; HTN; hypertensive heart disease
rx lisinopril {5-20} mg PO DAILY; BP {160-185}/{90-100}; rx carvedilol 12.5 mg PO BID
I13.0 404.91 chronic
hypertension; HTN; hypertensive heart and kidney disease
rx hydralazine 25 mg PO TID; BP {160-185}/{90-100}; rx carvedilol 6.25 mg PO BID
D62 285.1 acute
acute blood loss anemia; ABLA; acute post-hemorrhagic anemia
Hgb fell from 11.{0-9} to 6.{1-9}
D64.9 285.9 chronic
anemia; normocytic anemia; anemia of unclear cause
Hgb stable at {8-9}.{0-9}, at baseline
D50.9 280.9 chronic
iron deficiency anemia; IDA; iron deficiency
ferritin {4-11}, MCV {68-76}; rx ferrous sulfate 325 mg PO DAILY
D63.1 285.21 chronic
anemia of CKD; anemia in chronic kidney disease
rx epoetin alfa 10,000 units SC weekly
E87.1 276.1 acute
hyponatremia; low sodium
Na {118-128}, corrected slowly
E87.6 276.8 acute
hypokalemia; low potassium
K 2.{5-9}, repleted
E86.0 276.51 acute
dehydration; hypovolemia
dry mucous membranes and orthostasis, improved with {2-3} L of fluid
F32.A 311 chronic
depression; MDD; depressed mood on treatment
rx sertraline {50-150} mg PO DAILY; rx bupropion XL 150 mg PO DAILY
F41.9 300.00 chronic
anxiety; anxiety disorder; GAD
rx clonazepam 0.5 mg PO BID:PRN; rx buspirone 10 mg PO BID
E03.9 244.9 chronic
hypothyroidism; hypothyroid
rx levothyroxine {50-125} mcg PO DAILY; TSH {9-19}
F17.210 305.1 chronic
current smoker; tobacco use, active; smokes 1 ppd
rx nicotine patch 21 mg TD DAILY; has {10-20} cigarettes daily, counseled
Z87.891 V15.82 status
former smoker; ex-smoker; quit tobacco years ago
{20-50} pack-years, none since ___
F10.20 303.90 chronic
alcohol use disorder; alcohol dependence; EtOH dependence
drinks {6-12} beers daily; rx thiamine 100 mg PO DAILY
F10.239 303.90+291.81 acute
alcohol withdrawal; EtOH withdrawal
tremor and diaphoresis, CIWA {14-24}, required diazepam
K70.30 571.2 chronic
EtOH cirrhosis; alcoholic cirrhosis without ascites; compensated alcoholic cirrhosis
nodular liver after years of drinking, no fluid on ultrasound
K70.31 571.2+789.59 chronic
alcoholic cirrhosis with ascites; EtOH cirrhosis c/b ascites; decompensated alcoholic cirrhosis with ascites
nodular liver, tense abdomen with fluid wave; rx spironolactone 100 mg PO DAILY
K76.6 572.3 chronic
portal hypertension; portal HTN
varices and splenomegaly; rx nadolol 20 mg PO DAILY
K92.1 578.1 acute
melena; tarry stools
black guaiac positive stool
K92.2 578.9 acute
GI bleed; GIB; gastrointestinal hemorrhage
bright red blood per rectum, hemodynamically stable, PPI drip
S72.001A 820.8 acute
right hip fracture; right femoral neck fracture; R hip fx
right leg shortened and externally rotated, hip film with displaced neck
S72.002A 820.8 acute
left hip fracture; left femoral neck fracture; L hip fx
left leg shortened and externally rotated, hip film with displaced neck
M81.0 733.00 chronic
osteoporosis; low bone density
rx alendronate 70 mg PO weekly; T-score -2.{6-9}
W19.XXXA E888.9 acute
fall; mechanical fall; fall from standing
tripped at home and was found on the floor
I21.4 410.71 acute
NSTEMI; non-ST elevation MI; non-ST elevation myocardial infarction
troponin peaked at {1-4}.{0-9} with ST depressions
E66.9 278.00 chronic
obesity; obese
BMI {33-39}
G47.33 327.23 chronic
OSA; obstructive sleep apnea
uses CPAP at night
Z66 V49.86 status
DNR; DNR/DNI; do not resuscitate
MOLST signed, no CPR
I63.9 434.91 acute
ischemic stroke; CVA; acute infarct
new facial droop and arm drift, DWI lesion on MRI
F05 293.0 acute
delirium; acute confusion; toxic-metabolic delirium
inattentive and pulling at lines overnight; rx quetiapine 12.5 mg PO QHS:PRN
J69.0 507.0 acute
aspiration pneumonia; aspiration pneumonitis
witnessed vomiting then new bibasilar opacities; rx ampicillin-sulbactam 3 g IV Q6H
B96.20 041.49 acute
E. coli; Escherichia coli
urine grew pan-sensitive gram negative rods, lactose fermenter
I26.99 415.19 acute
pulmonary embolism; PE; pulmonary emboli
CTA with segmental filling defects
K80.00 574.00 acute
acute cholecystitis; acute calculous cholecystitis
positive Murphy sign, wall thickening and stones on RUQ ultrasound
K85.90 577.0 acute
acute pancreatitis; pancreatitis
lipase {900-2400}, epigastric pain to the back
L03.115 682.6 acute
cellulitis of right leg; right lower extremity cellulitis; RLE cellulitis
right shin red and warm with spreading margin; rx cephalexin 500 mg PO Q6H
L03.116 682.6 acute
cellulitis of left leg; left lower extremity cellulitis; LLE cellulitis
left shin red and warm with spreading margin; rx cephalexin 500 mg PO Q6H
N40.1 600.01 chronic M
BPH with LUTS; BPH; enlarged prostate with urinary symptoms
rx tamsulosin 0.4 mg PO QHS; rx finasteride 5 mg PO DAILY
M10.9 274.9 chronic
gout; gouty arthritis
rx allopurinol 100 mg PO DAILY
J45.909 493.90 chronic
asthma; mild asthma
rx fluticasone 110 mcg IH BID
Z99.2 V45.11 status
on hemodialysis; HD-dependent; dialysis dependent
dialyzes TTS via AV fistula
K76.82 572.2 acute
hepatic encephalopathy; HE
asterixis, cleared with lactulose titrated to 3 BMs
D69.6 287.5 chronic
thrombocytopenia; low platelets
plt {38-90}
E87.5 276.7 acute
hyperkalemia; high potassium
K 6.{1-8} with peaked T waves, given calcium and insulin
E87.20 276.2 acute
metabolic acidosis; acidosis
bicarb {10-15}, pH 7.2{0-8}
G93.41 348.31 acute
metabolic encephalopathy; toxic-metabolic encephalopathy
somnolent with diffuse slowing on EEG, cleared with treatment of infection
I13.2 404.93 chronic
hypertension; HTN; hypertensive heart and kidney disease with ESRD
rx hydralazine 50 mg PO TID; BP {165-190}/{90-100}
I12.0 403.91 chronic
hypertension; HTN; hypertensive kidney disease with ESRD
rx labetalol 300 mg PO TID; BP {165-190}/{90-100}
I48.20 427.31 chronic
chronic atrial fibrillation; chronic AF; longstanding afib
irregularly irregular for years, rhythm control abandoned
J44.0 491.22 acute
COPD with lower respiratory infection; COPD with superimposed pneumonia
COPD at baseline, now purulent sputum and new infiltrate
Z95.1 V45.81 status
s/p CABG; prior bypass surgery; CABG x3
midline sternotomy scar, LIMA graft patent
Z95.5 V45.82 status
s/p PCI; s/p DES; prior coronary stent
known stent in the LAD
I82.401 453.40 acute
right leg DVT; RLE DVT; right lower extremity deep vein thrombosis
right calf swollen with noncompressible vein
I82.402 453.40 acute
left leg DVT; LLE DVT; left lower extremity deep vein thrombosis
left calf swollen with noncompressible vein
Z86.73 V12.54 status
h/o CVA without deficits; prior TIA; remote stroke, no residual
old lacune on head CT
K56.609 560.9 acute
SBO; small bowel obstruction; bowel obstruction
dilated loops with transition point, NGT to suction
E43 262 chronic
severe malnutrition; severe protein-calorie malnutrition
lost {20-40} lbs, temporal wasting, albumin 1.{8-9}
C34.90 162.9 chronic
lung cancer; NSCLC
spiculated lung mass on chemo
C50.919 174.9 chronic F
breast cancer; invasive ductal carcinoma
rx letrozole 2.5 mg PO DAILY
"""
