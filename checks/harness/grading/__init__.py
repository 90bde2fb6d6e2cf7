"""Which checkpoints run, each in a process of its own, and what verdict follows."""
