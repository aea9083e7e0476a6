"""Code systems, what codes mean, and the label space of a model."""
