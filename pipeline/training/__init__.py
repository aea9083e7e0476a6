"""The trainings: what they minimise, batches, the loop, checkpoints."""
