"""Walls around a whole run of pytest on one submission: what it may see, and what it may use up."""
