"""Where in an image an answer comes from: Grad-CAM, integrated gradients, occlusion, and whether they deserve trust.

Every map is of one number, the score: the logarithm of the odds of a class, by default of the likeliest one. Unlike the
probability it has a gradient where the network is sure. Throughout: `model`, pixels 0..255 (n, height, width, channels)
to probabilities (n, classes); `classes` integers (n,) (None: what `model` answers); a map is positive where something
speaks for the class. What is covered, or begun from, is the mean colour of the image, which is neither black sky nor a
shadow.
"""

import contextlib
import warnings
from functools import partial

import keras
import numpy as np
import pandas as pd
from keras import layers
from scipy.stats import spearmanr

from cnnlab.measures.groups import mean_by_group
from cnnlab.training import predict

CONVOLUTIONS = (layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D, layers.Conv2DTranspose)
# Added to a sum of probabilities before its logarithm is taken: far below any that float32 tells from zero beside 1.
TINY = 1e-30
# Cells along a side of an image, which are covered one by one.
CELLS = 8
# Integrated gradients add up to the difference of scores within this share of it, or of a score of 1 where it is small.
TOLERANCE = 0.01
# Gradients on the way from the mean colour to the image: more, until that is so.
STEPS = (32, 64, 128, 256, 512, 1024, 2048)
# Times that a deletion looks at the answer after the first, evenly until all cells are covered.
LOOKS = 16
# Pixels, over all images, that go through a network at once: fewer where feature maps are held.
_ANSWERED, _WITH_MAPS = 2**17, 2**16


def leaves(model):
    """All layers of a Keras model, those of models within it included, in their order."""
    for layer in model.layers:
        yield from leaves(layer) if hasattr(layer, "layers") else [layer]


def explained_layer(model):
    """(layer, (rows, columns)) whose feature maps explain the answers of `model`, or None where there are none.

    They are the maps of its last convolution that has more than one position, after the normalisation and the
    activation that follow it: of all layers that keep its size, the last.
    """
    found = []
    with _watched(leaves(model), lambda layer, output: found.append((layer, output.shape))):
        model(_tensorflow().zeros((1, *model.input_shape[1:])), training=False)
    maps = [(layer, tuple(shape[1:3])) for layer, shape in found if len(shape) == 4]
    sizes = [size for layer, size in maps if isinstance(layer, CONVOLUTIONS) and max(size) > 1]
    return next((each for each in reversed(maps) if each[1] == sizes[-1]), None) if sizes else None


def explained(model, layer, images, classes=None):
    """(probabilities, maps) of `images`, a float32 tensor; TensorFlow can export it.

    `probabilities` float32 (n, classes) are what `model` answers; `maps` float32 (n, rows, columns) where in `layer`'s
    feature maps the score comes from: 1 where most speaks for the class, 0 where nothing does, or where something
    speaks against it. A two-sided probe sees mirror images before the images, in the same pass: maps are of the images.

    Source: Selvaraju et al., Grad-CAM: Visual explanations from deep networks via gradient-based localization (ICCV
    2017), equations 1 and 2.
    """
    tf, outputs = _tensorflow(), []
    with tf.GradientTape(watch_accessed_variables=False) as tape:

        def see(_, output):
            tape.watch(output)
            outputs.append(output)

        with _watched([layer], see):
            probabilities = tf.cast(model(images, training=False), "float32")
        scores = log_odds(probabilities, tf.argmax(probabilities, axis=-1) if classes is None else classes)
    own = slice(-tf.shape(images)[0], None)
    both = outputs[-1], tape.gradient(scores, outputs[-1])
    features, slopes = (tf.cast(part[own], "float32") for part in both)
    weights = tf.reduce_mean(slopes, axis=(1, 2), keepdims=True)
    maps = tf.nn.relu(tf.reduce_sum(weights * features, axis=-1))
    return probabilities, tf.math.divide_no_nan(maps, tf.reduce_max(maps, axis=(1, 2), keepdims=True))


def grad_cam(model, images, classes=None):
    """Grad-CAM of each image by `explained_layer`: float32 (n, rows, columns), 0 to 1.

    Raises ValueError for a model without a convolution.
    """
    if (found := explained_layer(model)) is None:
        raise ValueError(f"model {model.name} has no convolution with positions; Grad-CAM needs one")
    classes, count = asked_classes(model, images, classes), images_at_once(images, with_maps=True)
    starts = range(0, len(images), count)
    parts = [(np.float32(images[i : i + count]), classes[i : i + count]) for i in starts]
    return np.concatenate([explained(model, found[0], *part)[1].numpy() for part in parts])


def integrated_gradients(model, images, classes=None):
    """Integrated gradients of each image, summed over colours: float32 (n, height, width).

    They add up to the score of the image less that of its mean colour, within TOLERANCE: more STEPS are taken until
    they do, and a warning says where the most were too few.
    Source: Sundararajan, Taly and Yan, Axiomatic attribution for deep networks (ICML 2017), equations 1 and 3.
    """
    classes, maps = asked_classes(model, images, classes), []
    for image, asked in zip(np.asarray(images, "float32"), classes, strict=True):
        start = mean_colour(image)
        score, least = np.log(_odds(predict(model, np.stack([image, start])), asked))
        allowed = TOLERANCE * max(abs(score - least), 1)
        for steps in STEPS:
            parts = (image - start) * _mean_gradient(model, start, image, asked, steps)
            if (missed := abs(parts.sum() - (score - least))) <= allowed:
                break
        else:
            warnings.warn(f"integrated gradients of {steps} steps miss their sum by {missed:.2g}", stacklevel=2)
        maps.append(parts.sum(axis=-1))
    return np.stack(maps)


def occlusion(model, images, classes=None):
    """How far the score falls when a cell of the image is covered: float32 (n, rows, columns), CELLS a side.

    Source: Zeiler and Fergus, Visualizing and understanding convolutional networks (ECCV 2014), section 4.2.
    """
    (cells, shape), classes, maps = cell_numbers(images), asked_classes(model, images, classes), []
    for image, asked in zip(np.asarray(images, "float32"), classes, strict=True):
        each = np.arange(cells.max() + 1)[:, None, None] == cells
        covered = np.where(each[..., None], mean_colour(image), image)
        scores = np.log(_odds(predict(model, np.concatenate([image[None], covered]), images_at_once(images)), asked))
        maps.append((scores[0] - scores[1:]).reshape(shape))
    return np.stack(maps).astype("float32")


MAPS = {"Grad-CAM": grad_cam, "integrated gradients": integrated_gradients, "occlusion": occlusion}


def maps_of(model):
    """The names in MAPS of the maps that there are of `model`: without a convolution there is no Grad-CAM."""
    return [name for name in MAPS if name != "Grad-CAM" or explained_layer(model)]


def input_gradient(function, images):
    """Gradient of the sum of what `function` makes of `images`, a float32 tensor: float32, their shape."""
    tf = _tensorflow()
    pixels = tf.convert_to_tensor(images, "float32")
    with tf.GradientTape() as tape:
        tape.watch(pixels)
        outputs = function(pixels)
    return tape.gradient(outputs, pixels).numpy()


def score_gradient(model, images, classes):
    """Gradient of the score of each image's class by its pixels: float32, the shape of `images`."""
    return input_gradient(lambda pixels: log_odds(model(pixels, training=False), classes), images)


def _mean_gradient(model, start, image, asked, steps):
    """The mean gradient of the score of class `asked` at the middles of `steps` parts of the way, float32."""
    total, count = 0, images_at_once(image[None], with_maps=True)
    places = ((np.arange(steps, dtype="float32") + 0.5) / steps)[:, None, None, None]
    for first in range(0, steps, count):
        between = start + places[first : first + count] * (image - start)
        total += score_gradient(model, between, [asked] * len(between)).sum(axis=0)
    return total / steps


def log_odds(probabilities, classes):
    """The logarithm of the odds of `classes` (n,), of `probabilities` (n, classes), as tensors."""
    tf = _tensorflow()
    answer = tf.one_hot(classes, probabilities.shape[-1])
    for_it, against = (tf.reduce_sum(probabilities * part, axis=-1) for part in (answer, 1 - answer))
    return tf.math.log(for_it + TINY) - tf.math.log(against + TINY)


def _odds(probabilities, asked):
    """The same odds of one class in NumPy."""
    probabilities = np.asarray(probabilities, "float64")
    return (probabilities[:, asked] + TINY) / (np.delete(probabilities, asked, axis=1).sum(axis=1) + TINY)


def asked_classes(model, images, classes):
    """`classes`, or what `model` answers, int64 (n,)."""
    return predict(model, images, images_at_once(images)).argmax(axis=1) if classes is None else np.asarray(classes)


def images_at_once(images, with_maps=False):
    """How many of `images` go through a network together; `with_maps`: to be looked into, or back for gradients."""
    return max(1, (_WITH_MAPS if with_maps else _ANSWERED) // (images.shape[1] * images.shape[2]))


def mean_colour(image):
    """An image of the shape of `image` (height, width, channels), all in its mean colour."""
    return np.broadcast_to(image.mean(axis=(0, 1)), image.shape)


def cell_numbers(images):
    """(the number of the cell of each pixel (height, width), (rows, columns) of cells) of `images`."""
    shape = tuple(min(CELLS, side) for side in images.shape[1:3])
    rows, columns = (np.arange(side) * count // side for side, count in zip(images.shape[1:3], shape, strict=True))
    return rows[:, None] * shape[1] + columns, shape


def deletion_curve(model, images, order, classes=None):
    """Probability of `classes` as cells of the image are covered, in `order` (n, cells): float32 (n, 1 + LOOKS).

    The first column is of the whole image, the last of its mean colour alone. The sooner it falls, the better the order
    knows what the answer rests on.
    Source: Petsiuk, Das and Saenko, RISE: Randomized input sampling for explanation (BMVC 2018), section 4.2.
    """
    (cells, _), classes = cell_numbers(images), asked_classes(model, images, classes)
    ranks = np.argsort(order, axis=1)
    covered = np.linspace(0, order.shape[1], LOOKS + 1).round()[:, None, None]
    curves = []
    for image, rank, asked in zip(np.asarray(images, "float32"), ranks, classes, strict=True):
        hidden = (rank[cells] < covered)[..., None]
        curves.append(predict(model, np.where(hidden, mean_colour(image), image), images_at_once(images))[:, asked])
    return np.stack(curves)


def trust_in_maps(model, images, groups=None, names=None):
    """Whether each kind of map knows what the answer rests on, and depends on what was learned.

    `groups` (n,), what each image was taken together with (None: it is alone); `names` of MAPS (None: `maps_of`).
    Returns a DataFrame, a row a kind: map; images; deletion and random, the mean probability of the answer while cells
    are covered, those first that the map finds important, or in a random order; gain, the latter less the former, with
    its interval low and high over images, or groups; randomised, the mean rank correlation over cells with the map of
    the same network whose weights have changed places within each layer (a map that stays much the same shows the
    image, not the network), with randomised_low and randomised_high; flat, how many images that leaves with a map that
    is the same everywhere, which count as a correlation of 0.
    Source of the last: Adebayo et al., Sanity checks for saliency maps (NeurIPS 2018), section 3.
    """
    generator, classes = np.random.default_rng(0), asked_classes(model, images, None)
    twin = shuffled_weights(model, generator)
    count = cell_numbers(images)[0].max() + 1
    by_chance = generator.permuted(np.tile(np.arange(count), (len(images), 1)), axis=1)
    chance = deletion_curve(model, images, by_chance, classes).mean(axis=1)
    rows = []
    for name in names or maps_of(model):
        of_cells, of_twin = (_over_cells(MAPS[name](each, images, classes), images) for each in (model, twin))
        found = deletion_curve(model, images, np.argsort(-of_cells, axis=1, kind="stable"), classes).mean(axis=1)
        ordered = np.ptp(of_cells, axis=1).astype(bool) & np.ptp(of_twin, axis=1).astype(bool)
        alike = np.zeros(len(images))
        for place in np.flatnonzero(ordered):
            alike[place] = spearmanr(of_cells[place], of_twin[place]).statistic
        gain, low, high = mean_by_group(chance - found, groups)
        ends = ("randomised", "randomised_low", "randomised_high")
        randomised = dict(zip(ends, mean_by_group(alike, groups), strict=True))
        means = {"deletion": found.mean(), "random": chance.mean(), "gain": gain, "low": low, "high": high}
        rows.append({"map": name, "images": len(images), **means, **randomised, "flat": int((~ordered).sum())})
    return pd.DataFrame(rows)


def shuffled_weights(model, generator):
    """A copy of `model` in each of whose arrays of weights the numbers have changed places, by a NumPy `generator`."""
    twin = keras.models.clone_model(model)
    twin.set_weights([generator.permutation(each.ravel()).reshape(each.shape) for each in model.get_weights()])
    twin.jit_compile = model.jit_compile
    return twin


def _over_cells(maps, images):
    """Means of `maps` (n, rows, columns), of any size, over the cells of `images`: float32 (n, cells)."""
    cells, _ = cell_numbers(images)
    resized = np.asarray(keras.ops.image.resize(maps[..., None], images.shape[1:3]))[..., 0]
    sizes = np.bincount(cells.ravel())
    return np.stack([np.bincount(cells.ravel(), each.ravel()) / sizes for each in resized]).astype("float32")


@contextlib.contextmanager
def _watched(watched, see):
    """While the block runs, `see(layer, output)` hears what each of the layers `watched` puts out.

    In place of a second model from the inputs to a layer's output, which there is not where the layer stands within a
    model within the model.
    """
    watched = list(watched)

    def seen(layer, call, *inputs, **options):
        output = call(*inputs, **options)
        if keras.ops.is_tensor(output):
            see(layer, output)
        return output

    for layer in watched:
        vars(layer)["call"] = partial(seen, layer, layer.call)
    try:
        yield
    finally:
        for layer in watched:
            del vars(layer)["call"]


def _tensorflow():
    """TensorFlow, in which all of this is computed; NotImplementedError where Keras runs on something else."""
    if (backend := keras.backend.backend()) != "tensorflow":
        raise NotImplementedError(f"gradients need TensorFlow; Keras runs on {backend}: set KERAS_BACKEND=tensorflow")
    import tensorflow as tf

    return tf
