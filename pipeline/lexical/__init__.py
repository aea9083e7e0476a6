"""What words say of codes: TF-IDF, titles found in notes, and their combination."""
