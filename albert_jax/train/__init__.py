"""The machine around the model."""
