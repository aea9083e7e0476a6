"""Trained models and how they code documents, with evidence."""
