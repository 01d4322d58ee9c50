"""(seed, row) to example by random access, and Grain to batch the examples.

Rows are numbered through the whole of training: row n of a run is the same on any
number of hosts, and a run resumes from the number of its next row alone. This is the
only file that imports Grain.
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from albert_jax.config import DataConfig
from albert_jax.data.masking import Vocabulary, mask
from albert_jax.data.segments import Epoch, Pairs, plan_epoch, specials, truncated
from albert_jax.data.shards import PreparedCorpus
from albert_jax.data.tokenizer import Tokenizer

Example = dict[str, np.ndarray]

# Streams of random numbers that must not meet.
_PLAN, _ROW = 0, 1


class PretrainingData:
    """Pretraining rows of a prepared corpus: ``data[n]`` is row n of the run.

    A pure function of (corpus, config, seed, n). An epoch visits every document once;
    pairs, order and masks are drawn anew in each.

    Keys of a row (t = sequence length, p = predictions, c = pairs):
      input_ids, token_type_ids, position_ids: [t] int32.
      attention_mask: [t] bool. segment_ids: [t] int32, pair 1, 2, ...; 0 is padding.
      cls_positions, sentence_order_label: [c] int32; sentence_order_weights: [c].
      masked_positions, masked_labels: [p] int32; masked_weights: [p] float32.

    Raises:
      UserError: see ``plan_epoch``.
    """

    def __init__(
        self,
        corpus: PreparedCorpus,
        tokenizer: Tokenizer,
        config: DataConfig,
        seed: int,
    ) -> None:
        self.corpus = corpus
        self.config = config
        self.seed = seed
        self.specials = (tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id)
        every_piece = np.arange(tokenizer.vocab_size)
        self.vocabulary = Vocabulary(
            word_starts=tokenizer.word_starts,
            replacements=(
                every_piece if config.official_masking else tokenizer.ordinary_ids
            ),
            mask_id=tokenizer.mask_id,
        )
        self._plans: dict[int, Epoch] = {}
        self._planning = threading.Lock()
        self.rows_per_epoch = len(self.plan(0))
        """Rows of the first epoch; later ones are cut or wrapped to as many."""

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_plans": {}, "_planning": None}

    def __setstate__(self, state: dict) -> None:
        self.__dict__ = state | {"_planning": threading.Lock()}

    def plan(self, epoch: int) -> Epoch:
        """The epoch's pairs and rows; the two used last are kept."""
        with self._planning:
            if epoch not in self._plans:
                rng = np.random.default_rng([self.seed, _PLAN, epoch])
                plan = plan_epoch(
                    self.corpus.sentence_ends,
                    self.corpus.document_offsets,
                    self.config,
                    rng,
                )
                self._plans = dict([*self._plans.items()][-1:]) | {epoch: plan}
            return self._plans[epoch]

    def __getitem__(self, n: int) -> Example:
        epoch, row = divmod(int(n), self.rows_per_epoch)
        plan = self.plan(epoch)
        rng = np.random.default_rng([self.seed, _ROW, epoch, row])
        members = plan.pairs_of(row % len(plan))
        pairs = [self.segments(plan.pairs, int(pair), rng) for pair in members]
        return self._assemble(pairs, plan.pairs.label[members], rng)

    def segments(
        self, pairs: Pairs, pair: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, ...]:
        """Tokens of a pair's segments, in the order shown to the model, truncated."""
        document, split = pairs.document[pair], pairs.split[pair]
        budget = self.config.sequence_length - specials(self.config)
        a = self._tokens(document, pairs.first[pair], split)
        if self.config.objective == "none":
            return (_window(a, min(len(a), budget), rng),)
        foreign = pairs.other[pair] >= 0
        if foreign:
            span = pairs.other_first[pair], pairs.other_last[pair]
            b = self._tokens(pairs.other[pair], *span)
        elif split < pairs.last[pair]:
            b = self._tokens(document, split, pairs.last[pair])
        else:
            a, b = self._divide(_window(a, min(len(a), budget), rng), rng)
        # A foreign B follows A, whatever the official mode's label says of it.
        if pairs.label[pair] and not foreign:
            a, b = b, a
        keep_a, keep_b = truncated(len(a), len(b), budget)
        return _window(a, keep_a, rng), _window(b, keep_b, rng)

    def _tokens(
        self, document: np.integer, first: np.integer, last: np.integer
    ) -> np.ndarray:
        """The tokens of sentences ``first:last``, which lie in ``document``."""
        ends = self.corpus.sentence_ends
        start = ends[self.corpus.document_offsets[document]]
        tokens = self.corpus.tokens(int(document))
        return tokens[ends[first] - start : ends[last] - start]

    def _divide(
        self, sentence: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Splits a sentence before a word; a sentence of one word, before a piece."""
        places = np.flatnonzero(self.vocabulary.word_starts[sentence[1:]]) + 1
        if not len(places):
            places = np.arange(1, len(sentence))
        place = rng.choice(places)
        return sentence[:place], sentence[place:]

    def _assemble(
        self,
        pairs: list[tuple[np.ndarray, ...]],
        labels: np.ndarray,
        rng: np.random.Generator,
    ) -> Example:
        """Lays pairs out as [CLS] A [SEP] B [SEP] and masks the row."""
        c = self.config
        pad, cls, sep = self.specials
        ids = np.full(c.sequence_length, pad, np.int32)
        types, positions, members = np.zeros((3, c.sequence_length), np.int32)
        # Which segment a position's token belongs to; none for specials and padding.
        owner = np.full(c.sequence_length, -1)
        starts = np.zeros(c.pairs, np.int32)

        end = 0
        for i, segments in enumerate(pairs):
            start = starts[i] = end
            ids[start] = cls
            end += 1
            for kind, tokens in enumerate(segments):
                begin, end = end, end + len(tokens)
                ids[begin:end] = tokens
                owner[begin:end] = len(segments) * i + kind
                ids[end] = sep
                end += 1
                types[begin:end] = kind
            positions[start:end] = np.arange(end - start)
            members[start:end] = i + 1

        budget = min(c.predictions, max(1, round(c.mask_fraction * end)))
        masked, chosen = mask(
            ids,
            owner,
            self.vocabulary,
            budget,
            c.max_ngram,
            c.official_masking,
            rng,
        )
        judged = len(pairs) if c.objective != "none" else 0
        return {
            "input_ids": masked,
            "attention_mask": members > 0,
            "token_type_ids": types,
            "position_ids": positions,
            "segment_ids": members,
            "cls_positions": starts,
            "masked_positions": _fill(chosen, c.predictions, np.int32),
            "masked_labels": _fill(ids[chosen], c.predictions, np.int32),
            "masked_weights": _fill(np.ones(len(chosen)), c.predictions, np.float32),
            "sentence_order_label": _fill(labels, c.pairs, np.int32),
            "sentence_order_weights": _fill(np.ones(judged), c.pairs, np.float32),
        }

    def batches(
        self, start: int, stop: int, host: int = 0, hosts: int = 1
    ) -> Iterator[Example]:
        """Batches of rows ``start`` to ``stop``, built ahead of need.

        Each host gets its contiguous part of every batch, [batch_size / hosts, ...].

        Raises:
          ValueError: the rows do not fill batches, or the hosts do not divide one.
        """
        import absl.flags
        import grain

        size = self.config.batch_size
        if (stop - start) % size or size % hosts:
            raise ValueError("rows must fill batches, and batches hosts, without rest")
        share = size // hosts
        rows = grain.MapDataset.source(
            _HostRows(self, start + host * share, (stop - start) // hosts, share, hosts)
        )
        batches = rows.batch(share).to_iter_dataset(
            grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)
        )
        if self.config.workers:
            # Grain's workers ask for command-line flags that only absl programs parse.
            if not absl.flags.FLAGS.is_parsed():
                absl.flags.FLAGS.mark_as_parsed()
            batches = batches.mp_prefetch(
                grain.MultiprocessingOptions(num_workers=self.config.workers)
            )
        return iter(batches)


@dataclass(frozen=True)
class _HostRows:
    """One host's rows: of every batch, ``share`` rows that lie together."""

    data: PretrainingData
    start: int
    rows: int
    share: int
    hosts: int

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, i: int) -> Example:
        batch, row = divmod(int(i), self.share)
        return self.data[self.start + batch * self.share * self.hosts + row]


def _fill(values: np.ndarray, length: int, dtype: type) -> np.ndarray:
    """``values``, followed by zeros up to ``length``."""
    filled = np.zeros(length, dtype)
    filled[: len(values)] = values
    return filled


def _window(tokens: np.ndarray, keep: int, rng: np.random.Generator) -> np.ndarray:
    """Drops tokens one by one, each time from the front or the back by a coin."""
    front = rng.binomial(len(tokens) - keep, 0.5)
    return tokens[front : front + keep]
