"""Shards written by an Apache Beam pipeline, where one machine is too small.

Every machine sees the sources and the folder. The caller's process reads the corpus
once, to cut it into chunks; through Beam goes only where each of them begins, and the
machine that writes its shard reads it again. What a shard holds follows from its chunk,
so the bytes are those of ``workers``.

Needs the extra ``beam``.
"""

import io
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import closing, redirect_stderr
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from albert_jax.config import CorpusConfig, UserError
from albert_jax.data.corpus import Chunk, chunks, sources
from albert_jax.data.sentences import ShardWriter
from albert_jax.data.workers import Done, peak_memory

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions


def pipeline_options(given: str) -> "PipelineOptions":
    """Options of a pipeline as TFDS' command line takes them:
    "runner=FlinkRunner,flink_master=HOST:PORT".

    Raises:
      UserError: Apache Beam is not installed, no runner is named or there is none of
        that name, or an option has a value that it does not take.
    """
    # Beam warns at its import that it will not reach Google's BigQuery.
    logging.disable(logging.WARNING)
    try:
        from apache_beam.options.pipeline_options import (
            PipelineOptions,
            StandardOptions,
        )
        from apache_beam.runners import create_runner
    except ModuleNotFoundError as error:
        raise UserError(
            "apache_beam is not installed: pip install albert_jax[beam]"
        ) from error
    finally:
        logging.disable(logging.NOTSET)
    options = PipelineOptions([f"--{option}" for option in given.split(",")])
    complaint = io.StringIO()
    try:
        # Values are parsed when they are asked for. What is no option of Beam's own
        # may be one of the runner's.
        with redirect_stderr(complaint):
            options.get_all_options(retain_unknown_options=True)
        runner = options.view_as(StandardOptions).runner
        if runner is None:
            # Beam would take its default: this machine, whatever cluster was meant.
            raise UserError("Apache Beam: no runner is named: runner=DirectRunner,...")
        create_runner(runner)
    except SystemExit as error:
        said = complaint.getvalue().rpartition("error: ")[2].strip()
        raise UserError(f"Apache Beam: {said}") from error
    except (AttributeError, ImportError, ValueError) as error:
        raise UserError(f"Apache Beam: {error}") from error
    return options


def write_by_beam(
    writer: ShardWriter,
    chunks: Iterable[Chunk],
    config: CorpusConfig,
    options: "PipelineOptions",
) -> Iterator[Done]:
    """Writes the chunks' shards, those that were finished before left as they are.

    Raises:
      UserError: the pipeline fails.
    """
    import apache_beam as beam

    left: list[_Place] = []
    for place in _places(chunks):
        if totals := writer.finished(place.chunk):
            yield Done(place.chunk.index, place.chunk.position, totals)
        else:
            left.append(place)
    try:
        with beam.Pipeline(options=options) as pipeline:
            places = pipeline | beam.Create(left) | beam.Reshuffle()
            places | beam.Map(_write, writer, config)
    except Exception as error:  # Whatever a runner makes of what its workers raise.
        raise UserError(f"Apache Beam: {_reason(error)}") from error
    for place in left:
        totals = writer.finished(place.chunk)
        where = place.chunk.index, place.chunk.position
        yield Done(*where, totals, os.getpid(), peak_memory())


@dataclass(frozen=True)
class _Place:
    """A chunk without its documents, and where they begin."""

    chunk: Chunk
    source: int
    """Index of the source of the first one."""
    before: int
    """Documents of that source that come before it."""


def _places(chunks: Iterable[Chunk]) -> Iterator[_Place]:
    source = before = 0
    for chunk in chunks:
        of = [source for source, _ in chunk.documents]
        if of[0] != source:
            source, before = of[0], 0
        yield _Place(replace(chunk, documents=()), source, before)
        before = of.count(of[-1]) + (before if of[-1] == source else 0)
        source = of[-1]


def _write(place: _Place, writer: ShardWriter, config: CorpusConfig) -> None:
    """On a machine of Beam's: the chunk is the first of what begins where it does."""
    begin = place.source, place.before
    with closing(chunks(config, sources(config), begin)) as stream:
        chunk = next(stream, None)
    if chunk is None or chunk.digest != place.chunk.digest:
        raise UserError(
            "the corpus has changed since it was cut, or machines see different ones "
            f"(shard {place.chunk.index} differs)"
        )
    writer.write(replace(chunk, index=place.chunk.index))


def _reason(error: Exception) -> str:
    """The line that says it: a worker's own error is the last but what Beam adds."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    ours = [line for line in lines if "UserError: " in line]
    said = (ours or lines[-1:] or [type(error).__name__])[-1]
    return said.rpartition("UserError: ")[2]
