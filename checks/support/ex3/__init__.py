"""Helpers of exercise 3: its load tests, how a run of one is judged, and how the analysis of steps is judged."""
