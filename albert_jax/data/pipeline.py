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
from albert_jax.data.blocks import Block, PlannedBlock, count_blocks, draw_block
from albert_jax.data.draws import RowDraws
from albert_jax.data.masking import Vocabulary, mask
from albert_jax.data.packing import before, lay_out, ragged
from albert_jax.data.segments import Epoch, Pairs, plan_epoch
from albert_jax.data.shards import PreparedCorpus
from albert_jax.data.tokenizer import Tokenizer

Example = dict[str, np.ndarray]

# Streams of random numbers that must not meet.
_PLAN, _ROW, _BLOCKS, _ORDER = range(4)


class PretrainingData:
    """Pretraining rows of a prepared corpus: ``data[n]`` is row n of the run.

    A pure function of (corpus, config, seed, n), which builds many rows at once at a
    fraction of the price. An epoch visits every document once, block after block (see
    ``albert_jax.data.blocks``): the order of blocks, and in each its pairs, rows, their
    order and their masks, are drawn anew in every epoch.

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
        self.vocab_size = tokenizer.vocab_size
        self._plans: dict[int, PlannedBlock] = {}
        self._planning = threading.Lock()
        self._ahead = 0
        self.blocks = count_blocks(corpus)
        self.block_rows = np.array(
            [len(self._draw(0, block)[1]) for block in range(self.blocks)]
        )
        """Rows of each block in the first epoch; later they are cut or wrapped to as
        many."""
        self.rows_per_epoch = int(self.block_rows.sum())

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_plans": {}, "_planning": None}

    def __setstate__(self, state: dict) -> None:
        self.__dict__ = state | {"_planning": threading.Lock()}

    def plan(self, turn: int) -> PlannedBlock:
        """The block that has its turn, counted through all epochs: its pairs, rows and
        tokens. The two used last are kept."""
        if plan := self._plans.get(turn):
            return plan
        with self._planning:
            if turn not in self._plans:
                epoch, place = divmod(turn, self.blocks)
                block, drawn = self._draw(epoch, int(self._order(epoch)[place]))
                plan = PlannedBlock(
                    drawn.pairs,
                    drawn.offsets,
                    drawn.members,
                    block.tokens(self.corpus, self.vocab_size),
                )
                self._plans = dict([*self._plans.items()][-1:]) | {turn: plan}
            return self._plans[turn]

    def _draw(self, epoch: int, block: int) -> tuple[Block, Epoch]:
        """A block, and its pairs and rows in an epoch."""
        rng = np.random.default_rng([self.seed, _BLOCKS])
        drawn = draw_block(self.corpus, block, self.blocks, rng)
        rng = np.random.default_rng([self.seed, _PLAN, epoch, block])
        ends, offsets = drawn.sentence_ends, drawn.document_offsets
        return drawn, plan_epoch(ends, offsets, self.config, rng)

    def _order(self, epoch: int) -> np.ndarray:
        """The blocks in the order in which an epoch visits them."""
        return np.random.default_rng([self.seed, _ORDER, epoch]).permutation(
            self.blocks
        )

    def _locate(self, n: int) -> tuple[int, int, int]:
        """Of row n: the turn of its block, which row of that it is, and how many the
        block has."""
        epoch, row = divmod(n, self.rows_per_epoch)
        rows = self.block_rows[self._order(epoch)]
        begins = before(rows)
        place = int(np.searchsorted(begins, row, side="right")) - 1
        turn = epoch * self.blocks + place
        return turn, row - int(begins[place]), int(rows[place])

    def plan_ahead(self, n: int) -> None:
        """Plans the block after row n's in the background, once half of this one is
        over, so that no step waits for it."""
        turn, row, rows = self._locate(n)
        if 2 * row >= rows and self._ahead < turn + 1:
            self._ahead = turn + 1
            threading.Thread(target=self.plan, args=(turn + 1,), daemon=True).start()

    def __getitem__(self, n: int) -> Example:
        return {name: rows[0] for name, rows in self.rows(int(n), int(n) + 1).items()}

    def rows(self, start: int, stop: int) -> Example:
        """Rows ``start`` to ``stop``, [rows, ...] each."""
        parts = []
        while start < stop:
            turn, row, rows = self._locate(start)
            count = min(stop - start, rows - row)
            parts.append(self._build(self.plan(turn), row, count, start))
            start += count
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}

    def _build(self, plan: PlannedBlock, first: int, count: int, n: int) -> Example:
        """``count`` rows of a block; its row ``first`` is row n of the run."""
        epoch, row = divmod(n, self.rows_per_epoch)
        width = self.config.sequence_length
        draws = RowDraws((self.seed, _ROW, epoch), row, count, width)
        members, held = plan.pairs_of(np.arange(first, first + count) % len(plan))
        pairs = plan.pairs.select(members)
        row = np.repeat(np.arange(count), held)
        slot = ragged(np.zeros_like(held), held)
        where = draws.random((count, self.config.pairs))[row, slot]
        tokens, sizes = self.segments(plan, pairs, where)
        return self._assemble(tokens, sizes, row, slot, pairs.label, draws)

    def segments(
        self, plan: PlannedBlock, pairs: Pairs, where: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """What pairs of a block show: all their tokens, end to end, and the sizes
        [pairs, segments] of each.

        Args:
          where: [pairs] in [0, 1): at which word to split a sentence that stands alone.
        """
        tokens = plan.tokens[ragged(pairs.start.ravel(), pairs.size.ravel())]
        if self.config.objective == "none":
            return tokens, pairs.size[:, :1]
        alone = np.flatnonzero(pairs.size[:, 1] == 0)
        if not len(alone):
            return tokens, pairs.size
        sizes, begins = pairs.size.copy(), before(pairs.size.sum(axis=1))[alone]
        whole = sizes[alone, 0]
        first = self._divide(tokens, begins, whole, where[alone])
        swapped = pairs.label[alone].astype(bool)
        sizes[alone, 0] = np.where(swapped, whole - first, first)
        sizes[alone, 1] = whole - sizes[alone, 0]
        # A swapped sentence begins with what comes after the split, and goes round.
        turned = np.arange(len(tokens))
        begins, whole, first = begins[swapped], whole[swapped], first[swapped]
        inside = ragged(np.zeros_like(whole), whole)
        of = np.repeat(np.arange(len(whole)), whole)
        turned[begins[of] + inside] = begins[of] + (inside + first[of]) % whole[of]
        return tokens[turned], sizes

    def _divide(
        self,
        tokens: np.ndarray,
        begins: np.ndarray,
        sizes: np.ndarray,
        where: np.ndarray,
    ) -> np.ndarray:
        """How many tokens of each sentence come before its split: at a word; in a
        sentence of one word, at a piece."""
        inner = ragged(begins + 1, sizes - 1)
        of = np.repeat(np.arange(len(sizes)), sizes - 1)
        possible = self.vocabulary.word_starts[tokens[inner]]
        words = np.bincount(of[possible], minlength=len(sizes))
        possible |= (words == 0)[of]
        places, of = inner[possible], of[possible]
        counts = np.bincount(of, minlength=len(sizes))
        chosen = before(counts) + (where * counts).astype(int)
        return places[chosen] - begins

    def _assemble(
        self,
        tokens: np.ndarray,
        sizes: np.ndarray,
        row: np.ndarray,
        slot: np.ndarray,
        labels: np.ndarray,
        draws: RowDraws,
    ) -> Example:
        """Rows of pairs, masked; see ``lay_out``."""
        c = self.config
        laid = lay_out(tokens, sizes, row, slot, c.sequence_length, self.specials)
        wanted = np.rint(c.mask_fraction * laid.used).astype(int)
        masked, chosen = mask(
            laid.ids,
            laid.segments,
            self.vocabulary,
            np.minimum(c.predictions, np.maximum(1, wanted)),
            c.max_ngram,
            c.official_masking,
            draws,
        )
        at, column = np.divmod(chosen, c.sequence_length)
        place = np.arange(len(at)) - np.searchsorted(at, at)
        predicted = _Slots(at, place, (len(masked), c.predictions))
        judged = _Slots(row, slot, (len(masked), c.pairs))
        return {
            "input_ids": masked,
            "attention_mask": laid.pairs > 0,
            "token_type_ids": laid.types,
            "position_ids": laid.positions,
            "segment_ids": laid.pairs,
            "cls_positions": judged.filled(laid.starts, np.int32),
            "masked_positions": predicted.filled(column, np.int32),
            "masked_labels": predicted.filled(laid.ids.ravel()[chosen], np.int32),
            "masked_weights": predicted.filled(1, np.float32),
            "sentence_order_label": judged.filled(labels, np.int32),
            "sentence_order_weights": judged.filled(c.objective != "none", np.float32),
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
        source = _HostBatches(self, start, (stop - start) // size, host, hosts)
        batches = grain.MapDataset.source(source).to_iter_dataset(
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
class _HostBatches:
    """One host's part of every batch: rows that lie together."""

    data: PretrainingData
    start: int
    batches: int
    host: int
    hosts: int

    def __len__(self) -> int:
        return self.batches

    def __getitem__(self, i: int) -> Example:
        size = self.data.config.batch_size
        share = size // self.hosts
        start = self.start + int(i) * size + self.host * share
        self.data.plan_ahead(start)
        return self.data.rows(start, start + share)


@dataclass(frozen=True)
class _Slots:
    """Where values go in an array of rows, each with so many slots."""

    row: np.ndarray
    slot: np.ndarray
    shape: tuple[int, int]

    def filled(self, values: np.ndarray | int, dtype: type) -> np.ndarray:
        """The values in their slots, zeros in those left over."""
        filled = np.zeros(self.shape, dtype)
        filled[self.row, self.slot] = values
        return filled
