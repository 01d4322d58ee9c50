"""A step's memory is used again."""

import subprocess
import sys
import textwrap


def test_freed_memory_is_kept():
    code = """
        import resource
        import jax
        import jax.numpy as jnp
        from albert_jax.train.memory import keep_freed_memory

        keep_freed_memory()
        step = jax.jit(lambda x: jnp.cumsum(jnp.outer(x, x), axis=0).max())
        x = jnp.ones(4096)
        faults = []
        for _ in range(6):
            step(x).block_until_ready()
            faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
        print(faults[-1] - faults[2])
    """
    again = subprocess.check_output([sys.executable, "-c", textwrap.dedent(code)])
    # Three steps of 64 MiB or more, in pages of 4 KiB: 50,000 if it is not.
    assert int(again) < 5_000
