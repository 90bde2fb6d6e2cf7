"""One list of checkpoint results, told in several ways."""
