"""Real servers in processes of their own, which are always gone at the end."""
