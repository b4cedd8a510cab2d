"""Where a network looked: Grad-CAM of its answer, as a function that TensorFlow can export.

Source: Selvaraju et al., Grad-CAM: Visual explanations from deep networks via gradient-based
localization, ICCV 2017, equations 1 and 2.
"""

import contextlib

import keras
import tensorflow as tf
from keras import layers

CONVOLUTIONS = (layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D, layers.Conv2DTranspose)
# Added to a sum of probabilities before its logarithm is taken: far below any that float32 tells from zero beside 1.
TINY = 1e-30


def leaves(model):
    """All layers of a Keras model, those of models within it included, in their order."""
    for layer in model.layers:
        yield from leaves(layer) if hasattr(layer, "layers") else [layer]


def explained_layer(model):
    """(layer, (rows, columns)) whose feature maps explain the answers of `model`, or None where there are none.

    They are the maps of its last convolution that has more than one position, after the
    normalisation and the activation that follow it: of all layers that keep its size, the last.
    """
    found = []
    with _watched(leaves(model), lambda layer, output: found.append((layer, output.shape))):
        model(tf.zeros((1, *model.input_shape[1:])), training=False)
    maps = [(layer, tuple(shape[1:3])) for layer, shape in found if len(shape) == 4]
    sizes = [size for layer, size in maps if isinstance(layer, CONVOLUTIONS) and max(size) > 1]
    return next((each for each in reversed(maps) if each[1] == sizes[-1]), None) if sizes else None


def explained(model, layer, images):
    """(probabilities, maps) of `images`, float32 (n, height, width, channels) in 0..255.

    `probabilities` float32 (n, classes) are what `model` answers; `maps` float32 (n, rows,
    columns) where in `layer`'s feature maps that answer comes from: 1 where most speaks for the
    likeliest class, 0 where nothing does, or where something speaks against it.

    The score whose gradient is taken is the logarithm of that class's odds. Its gradient is the
    probability's own, up to a factor that a map does not show, and does not vanish where the
    network is sure.
    """
    outputs = []
    with tf.GradientTape(watch_accessed_variables=False) as tape:

        def see(_, output):
            tape.watch(output)
            outputs.append(output)

        with _watched([layer], see):
            probabilities = tf.cast(model(images, training=False), "float32")
        answer = tf.one_hot(tf.argmax(probabilities, axis=-1), probabilities.shape[-1])
        for_it, against = (tf.reduce_sum(probabilities * part, axis=-1) for part in (answer, 1 - answer))
        score = tf.math.log(for_it) - tf.math.log(against + TINY)
    features, slopes = (tf.cast(part, "float32") for part in (outputs[-1], tape.gradient(score, outputs[-1])))
    weights = tf.reduce_mean(slopes, axis=(1, 2), keepdims=True)
    maps = tf.nn.relu(tf.reduce_sum(weights * features, axis=-1))
    return probabilities, tf.math.divide_no_nan(maps, tf.reduce_max(maps, axis=(1, 2), keepdims=True))


@contextlib.contextmanager
def _watched(watched, see):
    """While the block runs, `see(layer, output)` hears what each of the layers `watched` puts out.

    In place of a second model from the inputs to a layer's output, which there is not where the
    layer stands within a model within the model.
    """
    watched = list(watched)
    for layer in watched:
        vars(layer)["call"] = _seen(layer, layer.call, see)
    try:
        yield
    finally:
        for layer in watched:
            del vars(layer)["call"]


def _seen(layer, call, see):
    def seen(*inputs, **options):
        output = call(*inputs, **options)
        if keras.ops.is_tensor(output):
            see(layer, output)
        return output

    return seen
