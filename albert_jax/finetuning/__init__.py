"""Fine-tuning: its step, the run that drives it, and what came out of it."""
