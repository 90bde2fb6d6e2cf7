"""What the checkpoints stand on: each module does one thing and is named for it."""
