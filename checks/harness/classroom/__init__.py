"""Grades a class: every submission in a cell of its own, and what a teacher reads of it."""
