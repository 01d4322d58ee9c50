"""Text to arrays; NumPy and Grain only."""
