"""The checkpoints, one file per exercise, and the harness they stand on."""
