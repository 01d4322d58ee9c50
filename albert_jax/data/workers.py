"""Processes that do ``prepare``'s work; they are spawned, so no thread is ever forked.

One process means none but the caller's own.
"""

import multiprocessing
import os
import resource
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from albert_jax.config import CorpusConfig, UserError
from albert_jax.data.corpus import Chunk
from albert_jax.data.sentences import ShardWriter
from albert_jax.data.vocabulary import train_vocabulary

# What a worker was started with.
_given: Any = None

_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Done:
    """A shard that is written."""

    index: int
    position: int
    """Bytes on disk of the corpus up to its end."""
    totals: dict[str, Any]
    process: int = 0
    """The process that wrote it; 0: it was there before."""
    peak: int = 0
    """Most bytes of RAM that process has held so far."""


def write_shards(
    writer: ShardWriter, chunks: Iterable[Chunk], processes: int
) -> Iterator[Done]:
    """Writes the chunks' shards, those that were finished before left as they are.

    Shards come as they get done, in any order. At most ``processes`` + 1 chunks wait.

    Raises:
      UserError: a chunk cannot be read or a shard not written, or a worker was killed.
    """
    pending: set[Future] = set()
    with _pool(processes, writer) as pool:
        for chunk in chunks:
            if totals := writer.finished(chunk):
                yield Done(chunk.index, chunk.position, totals)
            elif processes == 1:
                yield _written(writer, chunk)
            else:
                while len(pending) > processes:
                    yield from _completed(pending)
                pending.add(pool.submit(_write, chunk))
        while pending:
            yield from _completed(pending)


def train_apart(
    config: CorpusConfig, vocab_size: int, path: Path, read: Callable[[int], None]
) -> int:
    """``train_vocabulary`` in a process of its own, which takes its memory with it;
    returns the most bytes of RAM that it held."""
    position = multiprocessing.get_context("spawn").Value("q", 0, lock=False)
    with _pool(1, position) as pool:
        training = pool.submit(_train, config, vocab_size, path)
        while not wait([training], timeout=_POLL_SECONDS).done:
            read(position.value)
        return training.result()


def peak_memory() -> int:
    """Most bytes of RAM this process has held."""
    status = Path("/proc/self/status")
    if status.exists():
        # Unlike getrusage's, this one does not begin with the parent's.
        line = next(x for x in status.read_text().splitlines() if "VmHWM" in x)
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@contextmanager
def _pool(processes: int, given: Any) -> Iterator[ProcessPoolExecutor]:
    pool = ProcessPoolExecutor(
        processes, multiprocessing.get_context("spawn"), _start, (given,)
    )
    try:
        yield pool
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process ended, perhaps killed for want of memory: run it again "
            "with fewer processes, finished shards are kept; in a script of your own, "
            'call prepare under if __name__ == "__main__"'
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start(given: Any) -> None:
    global _given
    _given = given
    # Ctrl-C reaches the whole process group; the parent alone answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _write(chunk: Chunk) -> Done:
    return _written(_given, chunk)


def _written(writer: ShardWriter, chunk: Chunk) -> Done:
    totals = writer.write(chunk)
    return Done(chunk.index, chunk.position, totals, os.getpid(), peak_memory())


def _train(config: CorpusConfig, vocab_size: int, path: Path) -> int:
    def read(position: int) -> None:
        _given.value = position

    train_vocabulary(config, vocab_size, path, read)
    return peak_memory()


def _completed(pending: set[Future]) -> Iterator[Done]:
    for future in wait(pending, return_when=FIRST_COMPLETED).done:
        pending.remove(future)
        yield future.result()
