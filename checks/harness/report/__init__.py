"""One list of checkpoint results, and several ways to show it."""
