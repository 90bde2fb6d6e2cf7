"""The learner's Dockerfile and compose.yaml: read, built, started, stopped."""
