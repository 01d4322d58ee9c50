"""Tasks: their examples, features, metrics and files; a model at work on text."""
