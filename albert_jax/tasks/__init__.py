"""A model at work on text."""
