"""The load generator: requests over real connections, and what became of each."""
