"""ALBERTs of others: their names and files, and ours."""
