"""The bench: a prediction, then a measurement of the learner's own service. It measures, and gives no verdict."""
