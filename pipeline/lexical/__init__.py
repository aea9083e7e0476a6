"""What words say of codes: TF-IDF, titles found in notes; and how scores of several models become one."""
