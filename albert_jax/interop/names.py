"""One table of names: our parameters, Hugging Face's tensors, the official variables.

A row is a module; its kind says what the leaves are called in each of the three, and
whether they lie transposed to ours. ``{a}`` and ``{f}`` are our attention and
feed-forward sub-blocks, ``{g}`` and ``{j}`` the group and the block inside it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from albert_jax.config import AlbertConfig, UserError
from albert_jax.model.encoder import Block, sharing_plan
from albert_jax.model.table import HEADS, head_named

# Whose names: those of a PyTorch state dict, or of a TensorFlow 1 checkpoint.
Form = Literal["hugging_face", "official"]


@dataclass(frozen=True)
class Kind:
    """What the leaves of a module are called: ours, Hugging Face's, official."""

    leaves: tuple[tuple[str, str, str], ...]
    hugging_face_transposed: bool = False
    official_transposed: bool = False


# Our kernels, like TensorFlow's, are [in, out]; PyTorch's are [out, in], and so are the
# official code's own output weights, which it multiplies transposed.
DENSE = Kind((("kernel", "weight", "kernel"), ("bias", "bias", "bias")), True)
OUTPUT = Kind(
    (("kernel", "weight", "output_weights"), ("bias", "bias", "output_bias")),
    True,
    True,
)
NO_BIAS = Kind((("kernel", "weight", "kernel"),), True)
NORM = Kind((("scale", "weight", "gamma"), ("bias", "bias", "beta")))
TABLE = Kind((("embedding", "weight", ""),))
BIAS = Kind((("bias", "bias", "output_bias"),))


@dataclass(frozen=True)
class Row:
    """A module: its path in our tree, in a state dict, in an official checkpoint.

    ``hugging_face`` is None where Hugging Face has no such module. ``tied`` is a second
    module of Hugging Face's whose leaves are the same tensors.
    """

    ours: str
    hugging_face: str | None
    official: str
    kind: Kind
    tied: str | None = None


EMBEDDINGS = (
    Row(
        "albert/embeddings/word_embeddings",
        "albert.embeddings.word_embeddings",
        "bert/embeddings/word_embeddings",
        TABLE,
    ),
    Row(
        "albert/embeddings/token_type_embeddings",
        "albert.embeddings.token_type_embeddings",
        "bert/embeddings/token_type_embeddings",
        TABLE,
    ),
    Row(
        "albert/embeddings/position_embeddings",
        "albert.embeddings.position_embeddings",
        "bert/embeddings/position_embeddings",
        TABLE,
    ),
    Row(
        "albert/embeddings/LayerNorm",
        "albert.embeddings.LayerNorm",
        "bert/embeddings/LayerNorm",
        NORM,
    ),
)
PROJECTION = (
    Row(
        "albert/embedding_hidden_mapping_in",
        "albert.encoder.embedding_hidden_mapping_in",
        "bert/encoder/embedding_hidden_mapping_in",
        DENSE,
    ),
)
_ATTENTION = "albert/encoder/attention_{a}/"
_FFN = "albert/encoder/ffn_{f}/"
_THEIRS = "albert.encoder.albert_layer_groups.{g}.albert_layers.{j}."
_OFFICIAL = "bert/encoder/transformer/group_{g}/inner_group_{j}/"
BLOCK = (
    *(
        Row(
            f"{_ATTENTION}{name}",
            f"{_THEIRS}attention.{name}",
            f"{_OFFICIAL}attention_1/self/{name}",
            DENSE,
        )
        for name in ("query", "key", "value")
    ),
    Row(
        f"{_ATTENTION}dense",
        f"{_THEIRS}attention.dense",
        f"{_OFFICIAL}attention_1/output/dense",
        DENSE,
    ),
    Row(
        f"{_ATTENTION}LayerNorm",
        f"{_THEIRS}attention.LayerNorm",
        f"{_OFFICIAL}LayerNorm",
        NORM,
    ),
    Row(
        f"{_FFN}intermediate",
        f"{_THEIRS}ffn",
        f"{_OFFICIAL}ffn_1/intermediate/dense",
        DENSE,
    ),
    Row(
        f"{_FFN}output",
        f"{_THEIRS}ffn_output",
        f"{_OFFICIAL}ffn_1/intermediate/output/dense",
        DENSE,
    ),
    Row(
        f"{_FFN}LayerNorm",
        f"{_THEIRS}full_layer_layer_norm",
        f"{_OFFICIAL}LayerNorm_1",
        NORM,
    ),
)
POOLER = (Row("albert/pooler", "albert.pooler", "bert/pooler/dense", DENSE),)
PREDICTIONS = (
    Row(
        "predictions/dense",
        "predictions.dense",
        "cls/predictions/transform/dense",
        DENSE,
    ),
    Row(
        "predictions/LayerNorm",
        "predictions.LayerNorm",
        "cls/predictions/transform/LayerNorm",
        NORM,
    ),
    Row("predictions", "predictions", "cls/predictions", BIAS, "predictions.decoder"),
)
SENTENCE_ORDER = (
    Row("sop_classifier", "sop_classifier.classifier", "cls/seq_relationship", OUTPUT),
)
CLASSIFIER = (Row("classifier", "classifier", "", OUTPUT),)
SPAN = (Row("qa_outputs", "qa_outputs", "cls/squad", OUTPUT),)
BEAM = (
    Row("start_logits/dense", None, "start_logits/dense", DENSE),
    Row("end_logits/dense_0", None, "end_logits/dense_0", DENSE),
    Row("end_logits/LayerNorm", None, "end_logits/LayerNorm", NORM),
    Row("end_logits/dense_1", None, "end_logits/dense_1", DENSE),
    Row("answer_class/dense_0", None, "answer_class/dense_0", DENSE),
    Row("answer_class/dense_1", None, "answer_class/dense_1", NO_BIAS),
)
# The masked-LM head multiplies with the word embeddings, of which Hugging Face's state
# dict has a second copy then.
TIED_EMBEDDINGS = "predictions.decoder.weight"


# What each head has beside the encoder: a source has all of a part, or nothing.
PARTS: dict[str, tuple[tuple[Row, ...], ...]] = {
    "AlbertModel": (POOLER,),
    "AlbertForPreTraining": (POOLER, PREDICTIONS, SENTENCE_ORDER),
    "AlbertForMaskedLM": (PREDICTIONS,),
    "AlbertForSequenceClassification": (POOLER, CLASSIFIER),
    "AlbertForTokenClassification": (CLASSIFIER,),
    "AlbertForMultipleChoice": (POOLER, CLASSIFIER),
    "AlbertForQuestionAnswering": (SPAN,),
    "AlbertForQuestionAnsweringWithBeam": (BEAM,),
}


@dataclass(frozen=True)
class Leaf:
    """One parameter of ours, and what it is called elsewhere.

    Attributes:
      ours: its path.
      names: tensors that hold it, all of them: copies, where we share more than others.
      tied: tensors that may hold it too, or instead of the first of ``names``.
      transposed: whether they lie transposed to ours.
    """

    ours: str
    names: tuple[str, ...]
    tied: tuple[str, ...]
    transposed: bool


def exported_groups(config: AlbertConfig) -> list[tuple[Block, ...]]:
    """For each group that a checkpoint elsewhere has, our sub-blocks of its blocks.

    Others share nothing smaller than groups: where only attention or only the
    feed-forward part is shared, or nothing, each layer becomes a group of its own. So
    it does where Hugging Face, which divides in floating point, would assign a layer to
    another group than floor(i * G / L), as with 14 groups of 18 layers.
    """
    layers, groups = config.num_hidden_layers, config.num_hidden_groups
    plan = sharing_plan(config)
    theirs = [int(i / (layers / groups)) for i in range(layers)]
    if theirs != [i * groups // layers for i in range(layers)]:
        return plan
    # Layers that share a part only are all different.
    return list(dict.fromkeys(plan))


def leaves(config: AlbertConfig, head: str, form: Form) -> dict[str, Leaf]:
    """Every parameter of a head by its path, with its names in one of the two forms.

    Raises:
      UserError: there is no such head, or Hugging Face has none like it.
    """
    head_named(head)
    found: dict[str, Leaf] = {}
    for row, numbers in _rows(config, head):
        if getattr(row, form) is None:
            raise UserError(f"Hugging Face has no head like {head}, so no names for it")
        for leaf in _expand(row, numbers, form, head):
            copies = found[leaf.ours].names if leaf.ours in found else ()
            found[leaf.ours] = replace(leaf, names=copies + leaf.names)
    if form == "hugging_face" and PREDICTIONS in PARTS[head]:
        path = f"{EMBEDDINGS[0].ours}/embedding"
        found[path] = replace(found[path], tied=(TIED_EMBEDDINGS,))
    return found


def parts(head: str, form: Form) -> list[dict[str, Leaf]]:
    """Those of ``leaves`` that are not the encoder's, part by part."""
    return [
        {leaf.ours: leaf for row in part for leaf in _expand(row, {}, form, head)}
        for part in PARTS[head]
        if all(getattr(row, form) is not None for row in part)
    ]


def names_of_parts(form: Form) -> dict[str, str]:
    """Every name that some head has beside the encoder, and the module it is of."""
    found = {
        name: module_of(leaf.ours)
        for head in HEADS
        for part in parts(head, form)
        for leaf in part.values()
        for name in leaf.names + leaf.tied
    }
    return found | ({TIED_EMBEDDINGS: "predictions"} if form == "hugging_face" else {})


def module_of(path: str) -> str:
    """The module of a head that a parameter outside of the encoder belongs to."""
    return path.removeprefix("albert/").partition("/")[0]


def _rows(config: AlbertConfig, head: str) -> Iterator[tuple[Row, dict[str, int]]]:
    """The rows of a head, in the order of the forward pass; a block's for each copy."""
    for row in EMBEDDINGS + (PROJECTION if config.has_projection else ()):
        yield row, {}
    for g, layer in enumerate(exported_groups(config)):
        for j, (a, f) in enumerate(layer):
            yield from ((row, {"a": a, "f": f, "g": g, "j": j}) for row in BLOCK)
    yield from ((row, {}) for part in PARTS[head] for row in part)


def _expand(row: Row, numbers: dict[str, int], form: Form, head: str) -> Iterator[Leaf]:
    """The leaves of a module."""
    joint, which = {"hugging_face": (".", 1), "official": ("/", 2)}[form]
    for names in row.kind.leaves:
        ours, theirs = names[0], names[which]
        tied = row.tied if form == "hugging_face" else None
        parts = getattr(row, form).format(**numbers), theirs
        leaf = Leaf(
            ours=f"{row.ours.format(**numbers)}/{ours}",
            names=(joint.join(filter(None, parts)),),
            tied=(f"{tied}{joint}{theirs}",) if tied else (),
            transposed=ours == "kernel" and getattr(row.kind, f"{form}_transposed"),
        )
        yield _unprefixed(leaf) if head == "AlbertModel" else leaf


def _unprefixed(leaf: Leaf) -> Leaf:
    """The encoder alone is the root of its own tree, ours and Hugging Face's."""
    return replace(
        leaf,
        ours=leaf.ours.removeprefix("albert/"),
        names=tuple(name.removeprefix("albert.") for name in leaf.names),
    )
