"""Services of the lab's own, known to be right: controls, and a feature store to fetch from."""
