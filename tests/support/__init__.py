"""Tests of what the checkpoints of one exercise share."""
