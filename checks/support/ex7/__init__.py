"""Helpers of exercise 7: a module for each thing that is judged."""
