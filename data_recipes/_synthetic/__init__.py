"""The synthetic corpus: its patients, notes and codes, and the raw files of both shapes."""
