"""The lab's networks, built from what a Trial says of them; and trained models on disk.

Every model takes raw pixels (0..255) because a rescaling is in its first layers: what is trained,
saved and served cannot disagree about the scale.
"""

import contextlib
import json
import zipfile
from pathlib import Path

import keras
import numpy as np
from keras import layers

from cnnlab.machine import atomic_file
from cnnlab.training.trial import CNN, PRETRAINED, Dense, network_options, one_each

# Side, in pixels, of the patches that the first layer of blocks sees.
PATCH = 2
# Of about so many training images are the statistics with which a normalisation answers; of 1,000 they cost a third
# of a point on validation, more than 2,500 bring nothing.
STATISTICS_IMAGES = 2_500
# The member of a .keras file that has the row of its training.
ROW_WITHIN = "cnnlab_row.json"
# Multiplies the features before the classifier of blocks, so that training begins with small logits.
LOGIT_SCALE = 1 / 9
# Whitening: the patches of so many images are known well enough, a few million. Added to each variance,
# of pixels in 0..1, so that directions in which natural images hardly vary are not blown up to noise.
WHITENING_IMAGES, WHITENING_EPSILON = 5_000, 3e-5


def build(model="cnn", input_shape=(32, 32, 3), num_classes=10, fused=False, **options):
    """The uncompiled network `model`, a key of `trial.NETWORKS`, under Keras's present dtype policy.

    `options`: the fields of its dataclass there; `input_shape` (height, width, channels) in pixels;
    `num_classes`: width of the softmax; `fused` trains faster and is not for saving (see
    `batch_normalization`), with the same weights in the same order.
    Returns a `keras.Sequential`: (batch, height, width, channels) in 0..255 to float32
    probabilities (batch, num_classes). Raises ValueError with the reason where it makes no network.
    """
    network = network_options(model, options)
    if len(input_shape) != 3 or any(int(side) != side or side < 1 for side in input_shape):
        raise ValueError(f"input_shape is {input_shape}; expected (height, width, channels) in pixels")
    if num_classes < 2:
        raise ValueError(f"num_classes is {num_classes}; a classifier needs at least 2")
    if model in PRETRAINED:
        raise ValueError(f"model={model!r} begins with weights learned elsewhere, on a data set: see build_for")
    if isinstance(network, Dense):
        stack, name = _dense(network), "dense"
    elif isinstance(network, CNN):
        stack, name = _cnn(network, input_shape, fused), "cnn"
    else:
        return _blocks(network, input_shape, num_classes, fused)
    # float32 whatever the policy: probabilities in bfloat16 have three significant digits.
    answer = layers.Dense(num_classes, activation="softmax", dtype="float32", name="probabilities")
    return keras.Sequential([keras.Input(input_shape, name="pixels"), *stack, answer], name=name)


def set_initial_weights(model, network, images):
    """Give `model` the initial weights that `network` (a `trial.Blocks`) computes; the others stay as drawn.

    `images`: the training images, uint8 (n, height, width, channels), which whitening looks at.
    """
    if getattr(network, "whitening", False):
        model.get_layer("whitening").set_weights(whitening_filters(images, PATCH))
    if getattr(network, "dirac", False):
        for layer in model.layers:
            if isinstance(layer, layers.Conv2D) and layer.kernel_size == (3, 3):
                layer.kernel.assign(dirac(keras.ops.convert_to_numpy(layer.kernel)))


@contextlib.contextmanager
def dtype_policy(name):
    """Build layers under the Keras dtype policy `name`, and restore the former one."""
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

    `row`: the tidy record of its training, a dict, which goes into the file (see `row_within`), so that a model that is
    kept says what it was trained on, and what its classes are called.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path, suffix=".keras") as partial:
        model.save(partial)
        if row is not None:
            # A zip, of which Keras reads its own members and leaves others alone.
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
    """`save_model`, and the tidy `row` beside it too (.json), for people and their tools."""
    save_model(model, path, row)
    with atomic_file(path.with_suffix(".json")) as partial:
        partial.write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")


def load_model(path):
    """The model kept as `path`, not compiled; ValueError for a file that is no model."""
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises what its archive reader happens to raise.
        raise ValueError(f"{path} is no model that Keras can load; delete it, and it is trained again") from error


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
            f"{input_shape[0]}x{input_shape[1]} pixels; take padding='same', or fewer or smaller layers"
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
    """Each component of a patch and its negative: as many filters, whether whitening or trained."""
    filters = 2 * PATCH * PATCH * channels
    if not network.whitening:
        patches = layers.Conv2D(filters, PATCH, kernel_initializer=_initializer(), name="conv0")
        return [layers.Rescaling(1 / 255, name="scale"), patches, _activation(network, "0")]
    # In float32: whitening takes small differences of pixels, and multiplies them. It is not
    # trained, so that nothing flows back through it.
    whitening = layers.Conv2D(filters, PATCH, trainable=False, dtype="float32", name="whitening")
    return [layers.Rescaling(1 / 255, dtype="float32", name="scale"), whitening, _activation(network, "0")]


def _activation(network, name):
    if network.activation == "relu":
        return layers.ReLU(name=f"relu{name}")
    return layers.Activation(network.activation, name=f"{network.activation}{name}")


def _initializer():
    """Uniform within 1 / sqrt(inputs of a unit), as airbench's layers are drawn (PyTorch's default)."""
    return keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")


def whitening_filters(images, size, epsilon=WHITENING_EPSILON):
    """(kernel, bias) of a convolution whose outputs on `images` are uncorrelated, of variance one.

    `images` uint8 (n, height, width, channels); `size` of the square patches in pixels;
    `epsilon`: see WHITENING_EPSILON. The convolution takes pixels in 0..1, pads nothing, and puts out
    each component of the patches' principal component analysis, largest variance first, and
    after them their negatives, for an activation that cuts negative values would lose half.
    Returns float32 kernel (size, size, channels, 2 x size x size x channels) and bias (filters,).
    Source: Page, How to train your ResNet 8 (2019), patch whitening; with the negatives, Jordan,
    94% on CIFAR-10 in 3.29 seconds on a single GPU (2024, arXiv 2404.00498).
    """
    windows = np.lib.stride_tricks.sliding_window_view(images[:WHITENING_IMAGES], (size, size), axis=(1, 2))
    # (n, rows, columns, channels, size, size) to one row a patch, in the kernel's order.
    patches = np.moveaxis(windows, 3, -1).reshape(-1, size * size * images.shape[-1]) / np.float32(255)
    mean = patches.mean(axis=0, dtype="float64")
    # In place and in float32, because np.cov would copy some millions of patches twice, in float64.
    patches -= mean.astype("float32")
    covariance = (patches.T @ patches).astype("float64") / (len(patches) - 1)
    variances, directions = np.linalg.eigh(covariance)
    whitening = directions[:, ::-1] / np.sqrt(variances[::-1] + epsilon)
    both = np.concatenate([whitening, -whitening], axis=1)
    return both.reshape(size, size, images.shape[-1], -1).astype("float32"), (-mean @ both).astype("float32")


def dirac(kernel):
    """`kernel` (height, width, inputs, outputs) whose first outputs copy the inputs, one each.

    The first min(inputs, outputs) filters become a one at the centre of their own channel; the
    rest stay as they are. A stack of such layers begins as a shallow one, through which the
    gradient passes unchanged. Source: Zagoruyko and Komodakis, DiracNets (2017); of part of the
    filters, Jordan (2024), "identity initialization". Sizes must be odd. Returns a new array.
    """
    height, width, inputs, outputs = kernel.shape
    copies = np.arange(min(inputs, outputs))
    changed = kernel.copy()
    changed[..., copies] = 0
    changed[height // 2, width // 2, copies, copies] = 1
    return changed


def renew_statistics(model, batches):
    """Give the BatchNormalization layers of the Sequential `model` the statistics of `batches` under its weights.

    The averages that Keras keeps along a training lag behind weights that move quickly. `batches`: a sequence of
    (uint8 images (n, height, width, channels), ...), best as training sees them; mean of the batches' means and
    variances, as in Wu and Johnson, Rethinking "Batch" in BatchNorm (2021), section 3. Raises ValueError for a model
    without such a layer.
    """
    norms = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]
    if not norms:
        raise ValueError(f"{model.name} has no BatchNormalization layer; expected a network with normalisation")
    momenta = [layer.momentum for layer in norms]
    try:
        for step in range(len(batches)):
            values = batches[step][0]
            for layer in norms:
                layer.momentum = step / (step + 1)  # So that all batches count alike.
            # No further than the last of them: a dropout behind it would draw the numbers of the training.
            for layer in model.layers[: model.layers.index(norms[-1]) + 1]:
                values = layer(values, training=layer in norms)
    finally:
        for layer, momentum in zip(norms, momenta, strict=True):
            layer.momentum = momentum


def batch_normalization(fused, **options):
    """Keras's BatchNormalization; with `fused`, on TensorFlow, trained by its fused operation.

    Same formula, weights and `options`. Keras converts to float32 and composes the
    normalisation of elementwise passes; the fused operation reads bfloat16 once, at a ninth of
    the time on a CPU (measured, forward and backward). Its running variance is the unbiased one.
    A network that is to be saved takes Keras's own, which every reader of the file has.
    """
    if fused and keras.backend.backend() == "tensorflow":
        return _fused_class()(**options)
    return layers.BatchNormalization(**options)


def _fused_class():
    import tensorflow as tf

    class FusedBatchNormalization(layers.BatchNormalization):
        def call(self, inputs, training=None, mask=None):
            if not (training and self.trainable):
                return super().call(inputs, training=training, mask=mask)
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

    return FusedBatchNormalization
