"""The networks of the recipes: the assignment's, and the one that ends at 94%."""

import keras
from keras import layers

from cnnlab import models
from cnnlab.recipes.initial import dirac
from cnnlab.recipes.normalization import batch_normalization
from cnnlab.recipes.whitening import whitening_filters

# Side, in pixels, of the patches that the first layer sees.
PATCH = 2
# The running statistics of a normalisation cover about so many images, whatever the batch.
STATISTICS_IMAGES = 2_500
# Multiplies the features before the classifier, so that training begins with small logits.
LOGIT_SCALE = 1 / 9


def build_network(recipe, input_shape, num_classes, fused=False):
    """The uncompiled network of `recipe` (a `recipe.Recipe`), under Keras's present dtype policy.

    "assignment" is `models.build_cnn`. "blocks" is, in the shape of Jordan's airbench94 (94% on
    CIFAR-10 in 3.29 seconds on a single GPU, 2024): a 2x2 convolution without padding; a block
    for each of the widths, which is 3x3 convolutions, each with normalisation and activation,
    the first with 2x2 max pooling before these; the maximum over all positions; a classifier
    without bias. `fused` trains faster and is not for saving (see `normalization`); the weights
    are the same, in the same order.
    Returns a `keras.Sequential`: (batch, height, width, channels) pixels in 0..255 to float32
    probabilities (batch, num_classes). Raises ValueError where the images are too small.
    """
    if recipe.network == "assignment":
        return models.build_cnn(
            recipe.widths, batch_norm=recipe.batch_norm, input_shape=input_shape, num_classes=num_classes
        )
    _check_size(recipe, input_shape)
    stack = [keras.Input(input_shape, name="pixels"), *_first_layer(recipe, input_shape[-1])]
    for number, width in enumerate(recipe.widths, start=1):
        stack += _block(recipe, number, width, fused)
    stack += [
        layers.GlobalMaxPooling2D(name="features"),
        # float32 from here, whatever the policy: probabilities in bfloat16 have three significant digits.
        layers.Rescaling(LOGIT_SCALE, dtype="float32", name="logit_scale"),
        layers.Dense(
            num_classes, activation="softmax", use_bias=False, kernel_initializer=_initializer(), dtype="float32",
            name="probabilities",
        ),
    ]  # fmt: skip
    return keras.Sequential(stack, name=f"cnn_{'_'.join(map(str, recipe.widths))}")


def set_initial_weights(model, recipe, images):
    """Give `model` the initial weights that `recipe` computes; the others stay as drawn.

    `images`: the training images, uint8 (n, height, width, channels), which whitening looks at.
    """
    if recipe.whitening:
        model.get_layer("whitening").set_weights(whitening_filters(images, PATCH))
    if recipe.dirac:
        for layer in model.layers:
            if isinstance(layer, layers.Conv2D) and layer.kernel_size == (3, 3):
                layer.kernel.assign(dirac(keras.ops.convert_to_numpy(layer.kernel)))


def _first_layer(recipe, channels):
    """Each component of a patch and its negative: as many filters, whether whitening or trained."""
    filters = 2 * PATCH * PATCH * channels
    if not recipe.whitening:
        patches = layers.Conv2D(filters, PATCH, kernel_initializer=_initializer(), name="conv0")
        return [layers.Rescaling(1 / 255, name="scale"), patches, _activation(recipe, "0")]
    # In float32: whitening takes small differences of pixels, and multiplies them. It is not
    # trained, so that nothing flows back through it.
    whitening = layers.Conv2D(filters, PATCH, trainable=False, dtype="float32", name="whitening")
    return [layers.Rescaling(1 / 255, dtype="float32", name="scale"), whitening, _activation(recipe, "0")]


def _block(recipe, number, width, fused):
    found = []
    for place in range(1, recipe.depth + 1):
        name = f"{number}_{place}"
        found.append(
            layers.Conv2D(
                width, 3, padding="same", use_bias=not recipe.batch_norm, kernel_initializer=_initializer(),
                name=f"conv{name}",
            )
        )  # fmt: skip
        if place == 1:
            found.append(layers.MaxPooling2D(2, name=f"pool{number}"))
        if recipe.batch_norm:
            momentum = max(0.0, 1 - recipe.batch_size / STATISTICS_IMAGES)
            norm = batch_normalization(fused, momentum=momentum, epsilon=1e-5, scale=False, name=f"norm{name}")
            found.append(norm)
        found.append(_activation(recipe, name))
    return found


def _activation(recipe, name):
    if recipe.activation == "relu":
        return layers.ReLU(name=f"relu{name}")
    return layers.Activation(recipe.activation, name=f"{recipe.activation}{name}")


def _initializer():
    """Uniform within 1 / sqrt(inputs of a unit), as airbench's layers are drawn (PyTorch's default)."""
    return keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")


def _check_size(recipe, input_shape):
    side = min(input_shape[:2]) - PATCH + 1
    if side >> len(recipe.widths) < 1:
        raise ValueError(
            f"{len(recipe.widths)} blocks halve {side} pixels to nothing; images of {input_shape[0]}x{input_shape[1]} "
            f"allow {max(0, side.bit_length() - 1)}"
        )
