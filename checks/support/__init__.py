"""Helpers of the checkpoints: one module for each exercise."""
