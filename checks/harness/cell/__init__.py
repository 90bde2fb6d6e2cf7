"""What runs beside the learner's code. Nothing in here imports what judges it."""
