"""The inference service: what a learner writes, exercise by exercise."""
