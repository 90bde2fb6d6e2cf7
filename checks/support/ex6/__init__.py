"""Helpers of exercise 6: a module for each thing that is judged."""
