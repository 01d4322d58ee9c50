"""``python -m albert_jax``: the command line."""

import sys

from albert_jax.cli import main

if __name__ == "__main__":
    sys.exit(main())
