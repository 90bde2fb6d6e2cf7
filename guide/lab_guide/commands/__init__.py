"""A module for each command: its function, which is named like it.

A module imports here at its top what is quick to import, and everything else in the function: every command would pay
for it.
"""
