"""Helpers of exercise 4: a module for each thing that is judged."""
