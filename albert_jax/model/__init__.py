"""The model of the paper's section 3, as pure functions of parameters and arrays."""
