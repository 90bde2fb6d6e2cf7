"""The judge's side of a cell: starts it, calls what is in it, and takes what comes back for data alone."""
