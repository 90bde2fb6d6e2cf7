"""Exercise 5: what its checkpoints assert, one module for each."""
