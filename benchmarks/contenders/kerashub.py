"""KerasHub's ALBERT on JAX as a contender, trained as Keras trains."""

import jax
import keras
import keras_hub
import numpy as np
from inputs import load_weights, make_batch
from keras_hub.layers import MaskedLMHead
from keras_hub.models import AlbertBackbone
from keras_hub.src.utils.transformers import convert_albert
from worker import nothing, serve


class Tensors:
    """What KerasHub's converter asks for weights."""

    def __init__(self, tensors: dict[str, np.ndarray]) -> None:
        self._tensors = tensors

    def port_weight(self, keras_variable, hf_weight_key, hook_fn=None) -> None:
        value = self._tensors[hf_weight_key]
        shape = list(keras_variable.shape)
        keras_variable.assign(hook_fn(value, shape) if hook_fn else value)


def load(job: dict) -> keras.Model:
    """The backbone, its masked-LM head that gathers first, and a sentence-order head.

    KerasHub has no sentence-order head; this one is a dense layer, as everybody's.
    """
    keras.config.set_floatx(job["dtype"])
    config, tensors = load_weights(job)
    backbone = AlbertBackbone(**convert_albert.convert_backbone_config(config))
    convert_albert.convert_weights(backbone, Tensors(tensors), config)
    head = MaskedLMHead(
        token_embedding=backbone.token_embedding,
        intermediate_activation=lambda x: keras.activations.gelu(x, approximate=True),
        layer_norm_epsilon=1e-12,
    )
    order = keras.layers.Dense(2)
    positions = keras.Input(shape=(None,), dtype="int32")
    encoded = backbone(backbone.input)
    model = keras.Model(
        {**backbone.input, "mask_positions": positions},
        [head(encoded["sequence_output"], positions), order(encoded["pooled_output"])],
    )
    named = {
        "predictions.dense.weight": head._intermediate_dense.kernel,
        "predictions.dense.bias": head._intermediate_dense.bias,
        "predictions.LayerNorm.weight": head._intermediate_layer_norm.gamma,
        "predictions.LayerNorm.bias": head._intermediate_layer_norm.beta,
        "predictions.bias": head._bias,
        "sop_classifier.classifier.weight": order.kernel,
        "sop_classifier.classifier.bias": order.bias,
    }
    for name, variable in named.items():
        value = tensors[name]
        variable.assign(value.T if value.ndim == 2 else value)
    return model


def batch_of(job: dict) -> tuple[dict, list]:
    batch = make_batch(job)
    inputs = {
        "token_ids": batch["input_ids"],
        "segment_ids": np.zeros_like(batch["input_ids"]),
        "padding_mask": np.ones_like(batch["input_ids"]),
        "mask_positions": batch["masked_positions"],
    }
    return inputs, [batch["masked_labels"], batch["sentence_order_label"]]


def trainable(job: dict) -> keras.Model:
    model = load(job)
    model.compile(
        optimizer=keras.optimizers.AdamW(1e-3, weight_decay=0.01, global_clipnorm=1.0),
        loss=[keras.losses.SparseCategoricalCrossentropy(from_logits=True)] * 2,
        jit_compile=True,
    )
    return model


def step(job: dict):
    model, (inputs, labels), facts = trainable(job), batch_of(job), {}

    def repeat() -> None:
        # Its number is read, so the step is done.
        loss = float(model.train_on_batch(inputs, labels)[0])
        facts.setdefault("check", loss)

    return repeat, facts


def forward(job: dict):
    model, (inputs, _) = load(job), batch_of(job)
    values = [variable.value for variable in model.trainable_variables]
    fixed = [variable.value for variable in model.non_trainable_variables]

    @jax.jit
    def apply(values, inputs):
        outputs, _ = model.stateless_call(values, fixed, inputs, training=False)
        return outputs

    inputs, facts = jax.device_put(inputs), {}

    def repeat() -> None:
        _, order = jax.block_until_ready(apply(values, inputs))
        facts["check"] = float(np.abs(order).sum())

    return repeat, facts


if __name__ == "__main__":
    serve(
        {"step": step, "forward": forward, "import": nothing},
        {
            "jax": jax.__version__,
            "keras": keras.__version__,
            "keras_hub": keras_hub.__version__,
        },
    )
