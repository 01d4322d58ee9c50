"""A tree of arrays in a folder, through Orbax: write it, read it, and why that failed.

The only file that imports Orbax (slow to load): import it late.
"""

import logging
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from jaxtyping import PyTree
from orbax.checkpoint import v1 as ocp


def save_async(folder: Path, state: PyTree) -> Callable[[], None]:
    """Copy the arrays and start to write them; what is returned waits for the end."""
    context = ocp.Context()
    # Made in the background, a directory that cannot be made (a full disk) leaves
    # threads that wait 20 minutes for it, and the process cannot exit.
    context.asynchronous.create_directories_asynchronously = False
    with context:
        return ocp.save_async(folder, state).result


def load(folder: Path, abstract_state: PyTree, partial: bool) -> PyTree:
    """The arrays that ``abstract_state`` describes, where its shardings ask for them;
    with ``partial`` it may leave out branches of what was saved."""
    context = ocp.Context()
    context.pytree.loading.partial_load = partial
    with context:
        return ocp.load(folder, abstract_state)


def system_error(error: Exception) -> int | None:
    """The system's error number behind a failed write, if there is one."""
    if isinstance(error, OSError):
        return error.errno
    # TensorStore, below Orbax, hands it on as text.
    match = re.search(r"os_error_code='(\d+)'", str(error))
    return int(match[1]) if match else None


class Noise:
    """What a failed write says on standard error beside the exception that it raises.

    Orbax logs that exception's traceback too, raises it, and closes its event loop;
    TensorStore's threads write on, and each one prints another traceback when it finds
    the loop closed, perhaps as late as while the process exits.
    """

    def __init__(self) -> None:
        self.failed = False
        """Set once a write has failed: its stragglers stay unheard to the end."""

    def hush(self) -> None:
        """Drops it from now on."""
        logging.getLogger("absl").addFilter(_is_news)
        # This one may stay: it names what it drops.
        warnings.filterwarnings(
            "ignore", "coroutine .*write_fragment", category=RuntimeWarning
        )
        self._hook = sys.unraisablehook
        sys.unraisablehook = self._report

    def unhush(self) -> None:
        """Drops it no longer, unless a write has failed."""
        logging.getLogger("absl").removeFilter(_is_news)
        if not self.failed:
            sys.unraisablehook = self._hook

    def _report(self, found: "sys.UnraisableHookArgs") -> None:
        if str(found.exc_value) != "Event loop is closed":
            self._hook(found)


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a log line says what no exception does."""
    return "run() raised an exception" not in record.getMessage()
