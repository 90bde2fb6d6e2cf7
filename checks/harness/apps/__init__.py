"""Services of the lab's own: known to be right, of known capacity, or around the learner's app."""
