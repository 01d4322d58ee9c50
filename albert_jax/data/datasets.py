"""TensorFlow Datasets as a source of documents and examples, without TensorFlow.

Imports tensorflow_datasets at the top, so it is itself imported only for ``tfds:``
sources. TFDS keeps its data where ``TFDS_DATA_DIR`` says.
"""

import importlib
import importlib.util
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from albert_jax.config import CorpusConfig, UserError, nearest

# Packages of TFDS with text in them; without TensorFlow it does not look there.
_TEXT_PACKAGES = ("text", "question_answering", "summarization", "translate")
_SPLIT = "train"


class TfdsSource:
    """The train split of a TFDS data set, one document an example.

    ``spec`` is NAME, NAME/CONFIG or NAME/CONFIG:VERSION as in ``tfds.load``; a NAME
    with dots, ``package.module.my_set``, is imported first. A data set that is not
    prepared yet is downloaded and prepared, as array_record; where TFDS does that by
    Apache Beam, as it does Wikipedia, by a pipeline with the options ``beam``.

    Raises:
      UserError: TFDS does not know or cannot prepare it, or it has no train split or
        no such text field.
    """

    modified = 0

    def __init__(self, spec: str, config: CorpusConfig, beam: Any = None) -> None:
        self.name = f"tfds:{spec}"
        self._field = config.text_field
        self._builder = _found(spec)
        features = list(self._builder.info.features)
        if self._field not in features:
            raise UserError(
                f"{self.name} has no field {self._field!r}; set text_field to one of "
                + ", ".join(features)
            )
        _prepare(self._builder, self.name, _SPLIT, beam)
        split = self._builder.info.splits[_SPLIT]
        self.size = int(split.num_bytes)
        self._examples = int(split.num_examples)

    def texts(self) -> Iterator[tuple[str, int]]:
        """(document, bytes of the data set read so far), in order."""
        examples = self._builder.as_data_source(split=_SPLIT)
        for index in range(self._examples):
            text = examples[index][self._field]
            if not isinstance(text, bytes | str):
                raise UserError(
                    f"{self.name} has {type(text).__name__} in {self._field!r}, but "
                    "it must be text; set text_field"
                )
            if isinstance(text, bytes):
                text = self._decode(text, index)
            yield text, self.size * (index + 1) // self._examples

    def _decode(self, data: bytes, index: int) -> str:
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise UserError(
                f"{self.name}, example {index}, is not UTF-8 at byte offset "
                f"{error.start} of {self._field!r}"
            ) from None


def examples(spec: str, split: str) -> Iterator[dict[str, Any]]:
    """The examples of a split: text, numbers, lists of them; classes by their names,
    None where a class is unknown (-1).

    Raises:
      UserError: TFDS does not know or cannot prepare the set, or has no such split.
    """
    builder = _found(spec)
    _prepare(builder, f"tfds:{spec}", split)
    features = builder.info.features
    source = builder.as_data_source(split=split)
    for index in range(len(source)):
        example = source[index]
        yield {name: _plain(features[name], example[name]) for name in features}


def _plain(feature: tfds.features.FeatureConnector, value: Any) -> Any:
    """A value as JSON would have it; what is nested, as it is."""
    if isinstance(value, dict):
        return value
    if isinstance(feature, tfds.features.Sequence):
        return [_plain(feature.feature, one) for one in value]
    if isinstance(feature, tfds.features.ClassLabel):
        return feature.int2str(int(value)) if value >= 0 else None
    if isinstance(value, bytes):
        return value.decode()
    return value.item() if isinstance(value, np.generic) else value


def _found(spec: str) -> tfds.core.DatasetBuilder:
    base = spec.split("/")[0].split(":")[0]
    module, _, name = base.rpartition(".")
    if module and not (_imported(base) or _imported(module)):
        raise UserError(f"tfds:{spec}: there is no module {base} or {module}")
    known = name + spec[len(base) :]
    try:
        return _built(known, spec)
    except tfds.core.DatasetNotFoundError:
        places = (f"{tfds.__name__}.{p}.{name}" for p in _TEXT_PACKAGES)
        if any(map(_imported, places)):
            return _built(known, spec)
    similar = nearest(name, tfds.list_builders(with_community_datasets=False))
    raise UserError(
        f"TensorFlow Datasets knows no {name!r}{similar}; name one of your own as "
        "tfds:PACKAGE.MODULE.NAME, or set TFDS_DATA_DIR to where it is prepared"
    )


def _built(known: str, spec: str) -> tfds.core.DatasetBuilder:
    try:
        return tfds.builder(known, file_format="array_record")
    except tfds.core.DatasetNotFoundError:
        raise
    except Exception as error:  # A wrong config or version: TFDS raises anything.
        raise UserError(f"tfds:{spec}: {_first_line(error)}") from error


def _prepare(
    builder: tfds.core.DatasetBuilder, name: str, split: str, beam: Any = None
) -> None:
    how = tfds.download.DownloadConfig(beam_options=beam)
    try:
        builder.download_and_prepare(download_config=how)
        splits = list(builder.info.splits)
        if split in splits:
            builder.as_data_source(split=split)
    except Exception as error:  # No network, a missing package, another format.
        raise UserError(
            f"{name} cannot be prepared as array_record without TensorFlow: "
            + _first_line(error)
        ) from error
    if split not in splits:
        raise UserError(f"{name} has no {split} split, only {', '.join(splits)}")


def _imported(module: str) -> bool:
    """Whether there is such a module; importing it makes TFDS know its data sets."""
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return False
    if spec is None:
        return False
    importlib.import_module(module)
    return True


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
