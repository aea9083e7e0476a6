"""Settings of an experiment, what its stages exchange, and how MLflow remembers it."""
