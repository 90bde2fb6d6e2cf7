"""What runs beside the learner's code. A cell is the interpreter that the learner's code lives in.

Nothing in here imports what judges it.
"""
