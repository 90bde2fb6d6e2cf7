"""What the checkpoints of one exercise share: helpers that keep a checkpoint's body short enough to read."""
