"""What the synthetic corpus knows about procedures; invented as its diagnoses are, in ``conditions`` beside this.

Five lines for each code: ICD-10-PCS code, ICD-9-CM procedure code and the kind; names; what implies it; the
title of the ICD-10-PCS code; the title of the ICD-9-CM code.
"""

from __future__ import annotations

PROCEDURES = """
30233N1 99.04 procedure
pRBC transfusion; transfused red cells; blood transfusion
received {1-4} units
Transfusion of Nonautologous Red Blood Cells into Peripheral Vein, Percutaneous Approach
Transfusion of packed cells
5A1D70Z 39.95 procedure
hemodialysis; HD session; intermittent dialysis
ultrafiltration of {2-4} L
Performance of Urinary Filtration, Intermittent, Less than 6 Hours Per Day
Hemodialysis
5A1945Z 96.71 procedure
mechanical ventilation; ventilated for two days
vent weaned, SBT passed on day {2-3}
Respiratory Ventilation, 24-96 Consecutive Hours
Continuous invasive mechanical ventilation for less than 96 consecutive hours
0BH17EZ 96.04 procedure
intubation; endotracheal intubation; intubated
ETT {2-5} cm above the carina
Insertion of Endotracheal Airway into Trachea, Via Natural or Artificial Opening
Insertion of endotracheal tube
4A023N7 37.22 procedure
left heart catheterization; cardiac cath; LHC
LVEDP {12-28}
Measurement of Cardiac Sampling and Pressure, Left Heart, Percutaneous Approach
Left heart cardiac catheterization
B2111ZZ 88.56 procedure
coronary angiography; coronary angiogram
{70-95}% mid LAD stenosis
Fluoroscopy of Multiple Coronary Arteries using Low Osmolar Contrast
Coronary arteriography using two catheters
027034Z 00.66 procedure
PCI with DES to one vessel; drug-eluting stent to LAD; PTCA with DES
no residual stenosis, ticagrelor load
Dilation of Coronary Artery, One Artery with Drug-eluting Intraluminal Device, Percutaneous Approach
Percutaneous transluminal coronary angioplasty [PTCA]
0W9G3ZZ 54.91 procedure
paracentesis; therapeutic paracentesis; large volume para
{3-8} L of straw colored fluid removed
Drainage of Peritoneal Cavity, Percutaneous Approach
Percutaneous abdominal drainage
0DJ08ZZ 45.13 procedure
EGD; upper endoscopy
erosions seen on scope, no active bleeding
Inspection of Upper Intestinal Tract, Via Natural or Artificial Opening Endoscopic
Other endoscopy of small intestine
0SRR0JZ 81.52 procedure
right hip hemiarthroplasty; R hip hemi
right prosthesis in good position
Replacement of Right Hip Joint, Femoral Surface with Synthetic Substitute, Open Approach
Partial hip replacement
0SRS0JZ 81.52 procedure
left hip hemiarthroplasty; L hip hemi
left prosthesis in good position
Replacement of Left Hip Joint, Femoral Surface with Synthetic Substitute, Open Approach
Partial hip replacement
0QS604Z 79.35 procedure
ORIF right hip; right femur open reduction and fixation
right femur hardware intact
Reposition Right Upper Femur with Internal Fixation Device, Open Approach
Open reduction of fracture with internal fixation, femur
0QS704Z 79.35 procedure
ORIF left hip; left femur open reduction and fixation
left femur hardware intact
Reposition Left Upper Femur with Internal Fixation Device, Open Approach
Open reduction of fracture with internal fixation, femur
0FT44ZZ 51.23 procedure
laparoscopic cholecystectomy; lap chole
port sites clean
Resection of Gallbladder, Percutaneous Endoscopic Approach
Laparoscopic cholecystectomy
02HV33Z 38.97 procedure
central line; right IJ central venous catheter; CVL
line tip in the SVC
Insertion of Infusion Device into Superior Vena Cava, Percutaneous Approach
Central venous catheter placement with guidance
3E0G76Z 96.6 procedure
tube feeds; enteral feeding
Dobhoff in place, goal rate {45-65} cc/h
Introduction of Nutritional Substance into Upper GI, Via Natural or Artificial Opening
Enteral infusion of concentrated nutritional substances
"""
