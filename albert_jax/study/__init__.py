"""What experiments show: studies over arms and seeds, and models from within."""
