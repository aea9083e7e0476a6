"""Label matrices, scores, how sure they are, thresholds, and comparisons of systems."""
