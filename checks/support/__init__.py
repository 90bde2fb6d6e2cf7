"""What only the checkpoints of one exercise use: one module, or one package, for each."""
