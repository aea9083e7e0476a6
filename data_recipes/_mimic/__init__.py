"""What the recipes of MIMIC-III and MIMIC-IV share."""
