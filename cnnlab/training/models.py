"""The lab's networks, built from the options of a Trial; what they cost; and trained models on disk.

Every model takes raw pixels (0..255) and rescales them in its first layers, so that training, saving and serving
cannot disagree about the scale.
"""

import contextlib
import copy
import json
import zipfile
from math import prod
from pathlib import Path

import keras
from keras import layers

from cnnlab.machine import atomic_file
from cnnlab.training.networks import CNN, PRETRAINED, Dense, Layers, network_options, one_each

# Side, in pixels, of the patches that the first layer of a blocks network sees.
PATCH = 2
# The member of a .keras file that holds the row of its training.
ROW_WITHIN = "cnnlab_row.json"
# How layers written by hand are named, by kind; a number follows.
SHORT = {"Conv2D": "conv", "MaxPooling2D": "pool", "BatchNormalization": "norm", "ReLU": "relu"}
# Multiplies the features before a blocks network's classifier, so that training starts with small logits.
LOGIT_SCALE = 1 / 9
# Backward costs about twice the forward pass: once for the inputs, once for the weights.
TRAINING_TO_FORWARD = 3


def build(model="cnn", input_shape=(32, 32, 3), num_classes=10, fused=False, **options):
    """The uncompiled network `model`, a key of `networks.NETWORKS`, under Keras's current dtype policy.

    `options`: the fields of its dataclass there; `input_shape` (height, width, channels) in pixels;
    `num_classes`: width of the softmax; `fused`: trains faster but is not for saving (see
    `batch_normalization`); the weights and their order are the same.
    Returns a `keras.Sequential`: (batch, height, width, channels) in 0..255 to float32
    probabilities (batch, num_classes). Raises ValueError with the reason if it cannot be built.
    """
    network = network_options(model, options)
    if len(input_shape) != 3 or any(int(side) != side or side < 1 for side in input_shape):
        raise ValueError(f"input_shape is {input_shape}; expected (height, width, channels) in pixels")
    if num_classes < 2:
        raise ValueError(f"num_classes is {num_classes}; a classifier needs at least 2")
    if model in PRETRAINED:
        raise ValueError(f"model={model!r} starts from pretrained weights and needs a data set; use build_for")
    if isinstance(network, Dense):
        stack, name = _dense(network), "dense"
    elif isinstance(network, CNN):
        stack, name = _cnn(network, input_shape, fused), "cnn"
    elif isinstance(network, Layers):
        return _own(network, input_shape, num_classes, fused)
    else:
        return _blocks(network, input_shape, num_classes, fused)
    # float32 whatever the policy: probabilities in bfloat16 have three significant digits.
    answer = layers.Dense(num_classes, activation="softmax", dtype="float32", name="probabilities")
    return keras.Sequential([keras.Input(input_shape, name="pixels"), *stack, answer], name=name)


def batch_normalization(fused, **options):
    """Keras's BatchNormalization; with `fused`, on TensorFlow, trained with its fused operation.

    Same formula, weights and `options`. Keras converts to float32 and normalises in several
    elementwise passes; the fused operation reads bfloat16 once, in a ninth of the time on a CPU
    (measured, forward and backward). Its running variance is the unbiased one. A network that is
    to be saved uses Keras's own layer, which every reader of the file has.
    """
    if fused and keras.backend.backend() == "tensorflow":
        return FusedBatchNormalization(**options)
    return layers.BatchNormalization(**options)


class FusedBatchNormalization(layers.BatchNormalization):
    """Keras's layer, trained with TensorFlow's fused operation."""

    def call(self, inputs, training=None, mask=None):
        if not (training and self.trainable):
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        channels = inputs.shape[-1]
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.convert_to_tensor(self.gamma) if self.scale else tf.ones(channels),
            offset=tf.convert_to_tensor(self.beta) if self.center else tf.zeros(channels),
            mean=tf.zeros(0),
            variance=tf.zeros(0),
            epsilon=self.epsilon,
            is_training=True,
        )
        for running, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            running.assign(running * self.momentum + batch * (1 - self.momentum))
        return outputs


def forward_flops(model):
    """Floating-point operations of one image's forward pass, counting a multiply-add as two.

    Convolutions and dense layers only: the rest adds less than a hundredth.
    """
    weighted = (each for each in model.layers if isinstance(each, layers.Conv1D | layers.Conv2D | layers.Dense))
    return sum(2 * prod(layer.kernel.shape) * prod(layer.output.shape[1:-1]) for layer in weighted)


def training_flops(model, images):
    """Floating-point operations of training on `images` images (all epochs together)."""
    return TRAINING_TO_FORWARD * forward_flops(model) * images


@contextlib.contextmanager
def dtype_policy(name):
    """Build layers under the Keras dtype policy `name`, then restore the previous one."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def model_path(models_folder, key):
    """Where the model of the result called `key` (see `studies.Store`) is kept, if at all."""
    return Path(models_folder) / f"{key}.keras"


def save_model(model, path, row=None):
    """Write the `keras.Model` to `path`, a .keras file; a killed process leaves at most a partial file.

    `row`: the tidy record of its training, a dict, which goes into the file (see `row_within`), so that a saved model
    says what it was trained on and what its classes are called.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path, suffix=".keras") as partial:
        model.save(partial)
        if row is not None:
            # The file is a zip; Keras reads its own members and ignores others.
            with zipfile.ZipFile(partial, "a") as file:
                file.writestr(ROW_WITHIN, json.dumps(row))


def row_within(path):
    """The row that `save_model` wrote into the .keras file `path`, a dict; {} where there is none."""
    try:
        with zipfile.ZipFile(path) as file:
            return dict(json.loads(file.read(ROW_WITHIN)))
    except (OSError, KeyError, ValueError, TypeError, zipfile.BadZipFile):
        return {}


def save_with_row(model, row, path):
    """`save_model`, and also write the tidy `row` beside it (.json), for people and their tools."""
    save_model(model, path, row)
    with atomic_file(path.with_suffix(".json")) as partial:
        partial.write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")


def load_model(path):
    """The model saved as `path`, not compiled; ValueError for a file that is not a model."""
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises whatever its archive reader raises.
        raise ValueError(f"{path} is not a model that Keras can load; delete it to have it trained again") from error


def takes_raw_pixels(model):
    """Whether a layer of the `keras.Model`, or of a model within it, scales pixels."""
    kinds = layers.Rescaling, layers.Normalization
    return any(
        takes_raw_pixels(layer) if hasattr(layer, "layers") else isinstance(layer, kinds) for layer in model.layers
    )


def _dense(network):
    stack = [layers.Rescaling(1 / 255), layers.Flatten()]
    rates = one_each("dropout", network.dropout, len(network.units))
    for index, (width, rate) in enumerate(zip(network.units, rates, strict=True), start=1):
        stack.append(layers.Dense(width, activation="relu", name=f"dense{index}"))
        if rate:
            stack.append(layers.Dropout(rate, name=f"dropout{index}"))
    return stack


def _cnn(network, input_shape, fused):
    smallest = min(input_shape[:2])
    if network.padding == "valid" and network.left_of(smallest) < 1:
        raise ValueError(
            f"without padding {len(network.filters)} convolutions and {network.poolings} poolings leave nothing of "
            f"{input_shape[0]}x{input_shape[1]} pixels; use padding='same', or fewer or smaller layers"
        )
    if smallest >> network.poolings < 1:
        raise ValueError(
            f"{network.poolings} poolings halve {smallest} pixels to nothing; a {input_shape[0]}x{input_shape[1]} "
            f"image allows {smallest.bit_length() - 1}"
        )
    stack = [layers.Rescaling(1 / 255)]
    kernels = one_each("kernel_size", network.kernel_size, len(network.filters))
    for index, (count, size) in enumerate(zip(network.filters, kernels, strict=True), start=1):
        stack += _convolution(index, count, size, network, fused)
        if index <= network.poolings:
            stack.append(layers.MaxPooling2D(2, name=f"pool{index}"))
    stack.append(layers.GlobalAveragePooling2D() if network.head == "gap" else layers.Flatten())
    if network.dense:
        stack.append(layers.Dense(network.dense, activation="relu", name="features"))
    if network.dropout:
        stack.append(layers.Dropout(network.dropout))
    return stack


def _convolution(index, filters, size, network, fused):
    if not network.batch_norm:
        return [layers.Conv2D(filters, size, padding=network.padding, activation="relu", name=f"conv{index}")]
    return [
        layers.Conv2D(filters, size, padding=network.padding, name=f"conv{index}"),
        batch_normalization(fused, name=f"norm{index}"),
        layers.ReLU(name=f"relu{index}"),
    ]


def _blocks(network, input_shape, num_classes, fused):
    side = min(input_shape[:2]) - PATCH + 1
    if side >> len(network.filters) < 1:
        raise ValueError(
            f"{len(network.filters)} blocks halve {side} pixels to nothing; images of "
            f"{input_shape[0]}x{input_shape[1]} allow {max(0, side.bit_length() - 1)}"
        )
    stack = [keras.Input(input_shape, name="pixels"), *_patches(network, input_shape[-1])]
    for number, width in enumerate(network.filters, start=1):
        for place in range(1, network.depth + 1):
            name = f"{number}_{place}"
            stack.append(
                layers.Conv2D(
                    width, 3, padding="same", use_bias=not network.batch_norm, kernel_initializer=_initializer(),
                    name=f"conv{name}",
                )
            )  # fmt: skip
            if place == 1:
                stack.append(layers.MaxPooling2D(2, name=f"pool{number}"))
            if network.batch_norm:
                stack.append(batch_normalization(fused, epsilon=1e-5, scale=False, name=f"norm{name}"))
            stack.append(_activation(network, name))
    stack += [
        layers.GlobalMaxPooling2D(name="features"),
        # float32 from here, as in `build`.
        layers.Rescaling(LOGIT_SCALE, dtype="float32", name="logit_scale"),
        layers.Dense(
            num_classes, activation="softmax", use_bias=False, kernel_initializer=_initializer(), dtype="float32",
            name="probabilities",
        ),
    ]  # fmt: skip
    return keras.Sequential(stack, name=f"cnn_{'_'.join(map(str, network.filters))}")


def _patches(network, channels):
    """One filter for each component of a patch and one for its negative, whether whitening or trained."""
    filters = 2 * PATCH * PATCH * channels
    if not network.whitening:
        patches = layers.Conv2D(filters, PATCH, kernel_initializer=_initializer(), name="conv0")
        return [layers.Rescaling(1 / 255, name="scale"), patches, _activation(network, "0")]
    # In float32: whitening amplifies small differences between pixels. It is not trained, so
    # no gradient flows back through it.
    whitening = layers.Conv2D(filters, PATCH, trainable=False, dtype="float32", name="whitening")
    return [layers.Rescaling(1 / 255, dtype="float32", name="scale"), whitening, _activation(network, "0")]


def _activation(network, name):
    if network.activation == "relu":
        return layers.ReLU(name=f"relu{name}")
    return layers.Activation(network.activation, name=f"{network.activation}{name}")


def _initializer():
    """Uniform within 1 / sqrt(fan-in), as airbench draws its layers (PyTorch's default)."""
    return keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")


def _own(network, input_shape, num_classes, fused):
    """`build` for a network written by hand: same arguments, same errors."""
    if network.shape is not None and network.shape != tuple(input_shape):
        raise ValueError(f"the network takes images of {network.shape}; the data set's are {tuple(input_shape)}")
    *hidden, last = network.layers
    stack, counts = [keras.Input(input_shape, name="pixels")], {}
    for layer in hidden:
        kind = SHORT.get(layer["class_name"], layer["class_name"].lower())
        counts[kind] = counts.get(kind, 0) + 1
        stack.append(_layer(layer, fused, name=f"{kind}{counts[kind]}"))
    # float32 as in `build`.
    model = keras.Sequential([*stack, _layer(last, fused, name="probabilities", dtype="float32")], name="own")
    activation = getattr(getattr(model.layers[-1], "activation", None), "__name__", "no activation")
    if model.output_shape != (None, num_classes) or activation != "softmax":
        raise ValueError(
            f"the network ends in {model.output_shape[1:]} with {activation}; expected a probability for each of "
            f"{num_classes} classes: layers.Dense({num_classes}, activation='softmax')"
        )
    return model


def _layer(described, fused, **options):
    config = copy.deepcopy(described["config"]) | options
    if described["class_name"] == "BatchNormalization":
        return batch_normalization(fused, **config)
    return getattr(layers, described["class_name"]).from_config(config)
