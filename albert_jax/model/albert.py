"""The encoder as a whole: embeddings, E to H projection, layers, pooler."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from albert_jax.config import AlbertConfig
from albert_jax.model.attention import attention_bias
from albert_jax.model.encoder import Encoder, Probe
from albert_jax.model.layers import Dense, Embeddings

# What callers give: on a device, or still on its way there.
Input = Array | np.ndarray
# What heads hand on to AlbertModel by name, without looking at it.
ModelOption = Input | bool | Probe | None


@struct.dataclass
class AlbertOutput:
    """What ``AlbertModel`` returns; field names as in Hugging Face.

    With k blocks, L * ``inner_group_num`` of them:
      last_hidden_state: [b, t, h].
      pooler_output: [b, h], or [b, c, h] where ``cls_positions`` [b, c] were given;
        None for a model without pooler.
      hidden_states: [k + 1, b, t, h], the first being the first layer's input.
      attentions: [k, b, n, t, t], before dropout.
      probed: whatever the caller's probe kept, stacked over blocks.
    """

    last_hidden_state: PyTree
    pooler_output: PyTree
    hidden_states: PyTree = None
    attentions: PyTree = None
    probed: PyTree = None

    @property
    def by_layer(self) -> dict[str, PyTree]:
        """The fields with values of every block, which heads hand on as they are."""
        return {
            "hidden_states": self.hidden_states,
            "attentions": self.attentions,
            "probed": self.probed,
        }


def init_params(model: nn.Module, key: Key[Array, ""]) -> PyTree:
    """Fresh parameters of a model or head; no shape of them depends on a batch.

    Nor on how often a layer is applied: where all is shared, each group's is traced
    once, as tracing every one of 24 takes seconds.
    """
    c = model.config
    if c.share == "all":
        model = model.clone(config=replace(c, num_hidden_layers=c.num_hidden_groups))
    return model.init(key, jnp.zeros((1, 1), jnp.int32))["params"]


def abstract_params(model: nn.Module) -> PyTree:
    """``init_params`` as ``jax.ShapeDtypeStruct``; allocates nothing."""
    return jax.eval_shape(partial(init_params, model), jax.random.key(0))


class AlbertModel(nn.Module):
    """The ALBERT encoder (paper, section 3; official ``modeling.AlbertModel``).

    Heads that read every position do without the pooler, which would only be dead
    weight in their gradients and checkpoints.
    """

    config: AlbertConfig
    add_pooling_layer: bool = True

    def setup(self) -> None:
        self.embeddings = Embeddings(self.config)
        if self.config.has_projection:
            self.embedding_hidden_mapping_in = Dense(
                self.config, self.config.hidden_size
            )
        self.encoder = Encoder(self.config)
        if self.add_pooling_layer:
            self.pooler = Dense(self.config, self.config.hidden_size)

    def __call__(
        self,
        input_ids: Int[Input, "b t"],
        attention_mask: Bool[Input, "b t"] | Int[Input, "b t"] | None = None,
        token_type_ids: Int[Input, "b t"] | None = None,
        position_ids: Int[Input, "b t"] | None = None,
        segment_ids: Int[Input, "b t"] | None = None,
        cls_positions: Int[Input, "b c"] | None = None,
        *,
        deterministic: bool = True,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        probe: Probe | None = None,
    ) -> AlbertOutput:
        """Encodes rows of tokens.

        Args:
          input_ids: pieces.
          attention_mask: true where a key may be seen; all of them by default.
          token_type_ids: 0 for segment A, 1 for segment B; 0 by default.
          position_ids: 0, 1, 2, ... by default.
          segment_ids: for packed rows, which pair a position belongs to.
          cls_positions: for packed rows, where each pair starts; the pooler output
            then has one vector a pair, else it is the one of position 0.
          deterministic: no dropout; else an rng named "dropout" is needed.
          output_hidden_states: also return every block's output.
          output_attentions: also return every block's attention probabilities.
          probe: ``(input, output, attention) -> values`` to keep of every block.
        """
        given = input_ids, attention_mask, token_type_ids, position_ids, segment_ids
        input_ids, attention_mask, token_type_ids, position_ids, segment_ids = (
            x if x is None else jnp.asarray(x) for x in given
        )
        if attention_mask is None:
            attention_mask = jnp.ones_like(input_ids)
        if token_type_ids is None:
            token_type_ids = jnp.zeros_like(input_ids)
        if position_ids is None:
            positions = jnp.arange(input_ids.shape[1], dtype=input_ids.dtype)
            position_ids = jnp.broadcast_to(positions, input_ids.shape)

        hidden = self.embeddings(input_ids, token_type_ids, position_ids, deterministic)
        if self.config.has_projection:
            hidden = self.embedding_hidden_mapping_in(hidden)

        def keep(before: Array, after: Array, attention: Array) -> dict[str, PyTree]:
            kept = {}
            if output_hidden_states:
                kept["hidden_states"] = after
            if output_attentions:
                kept["attentions"] = attention
            if probe:
                kept["probed"] = probe(before, after, attention)
            return kept

        bias = attention_bias(attention_mask.astype(bool), segment_ids)
        last, kept = self.encoder(hidden, bias, deterministic, keep)
        if output_hidden_states:
            states = [hidden[None].astype(last.dtype), kept["hidden_states"]]
            kept["hidden_states"] = jnp.concatenate(states)
        pooled = self._pool(last, cls_positions) if self.add_pooling_layer else None
        return AlbertOutput(last, pooled, **kept)

    def _pool(
        self, hidden: Float[Array, "b t h"], positions: Int[Input, "b c"] | None
    ) -> Float[Array, "b h"] | Float[Array, "b c h"]:
        if positions is None:
            first = hidden[:, 0]
        else:
            first = jnp.take_along_axis(hidden, positions[..., None], axis=1)
        return jnp.tanh(self.pooler(first))
