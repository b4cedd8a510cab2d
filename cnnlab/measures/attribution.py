"""Where in an image an answer comes from: Grad-CAM, integrated gradients, occlusion, and whether to trust them.

Every map explains one number, the score: the log-odds of a class, by default the most likely one. Unlike the
probability's, its gradient does not vanish where the network is sure. Throughout: `model` maps pixels 0..255 (n,
height, width, channels) to probabilities (n, classes); `classes` are integers (n,) (None: the classes `model` answers);
a map is positive where the image supports the class. What replaces a covered cell, and where integrated gradients
start, is the image's mean colour, which is neither black sky nor a shadow.
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
# Added to a sum of probabilities before its logarithm: far below the least that float32 resolves next to 1.
TINY = 1e-30
# Cells along each side of an image; they are covered one by one.
CELLS = 8
# Integrated gradients must sum to the difference of scores within this share of it, or of 1 if it is smaller than 1.
TOLERANCE = 0.01
# Steps from the mean colour to the image, tried in turn until the sum is that close.
STEPS = (32, 64, 128, 256, 512, 1024, 2048)
# How often a deletion curve samples the answer after the first time, evenly until all cells are covered.
LOOKS = 16
# Pixels per batch, over all its images: fewer where feature maps are held.
_ANSWERED, _WITH_MAPS = 2**17, 2**16


def leaves(model):
    """All layers of a Keras model in order, those of nested models included."""
    for layer in model.layers:
        yield from leaves(layer) if hasattr(layer, "layers") else [layer]


def explained_layer(model):
    """(layer, (rows, columns)) whose feature maps explain the answers of `model`, or None where there are none.

    It is the last layer with maps of the same size as those of the last convolution that has more than one position:
    normalisation and activation after that convolution are included.
    """
    found = []
    with _watched(leaves(model), lambda layer, output: found.append((layer, output.shape))):
        model(_tensorflow().zeros((1, *model.input_shape[1:])), training=False)
    maps = [(layer, tuple(shape[1:3])) for layer, shape in found if len(shape) == 4]
    sizes = [size for layer, size in maps if isinstance(layer, CONVOLUTIONS) and max(size) > 1]
    return next((each for each in reversed(maps) if each[1] == sizes[-1]), None) if sizes else None


def explained(model, layer, images, classes=None):
    """(probabilities, maps) of `images`, a float32 tensor; TensorFlow can export it.

    `probabilities` float32 (n, classes) are `model`'s answers; `maps` float32 (n, rows, columns) show where in `layer`
    the score comes from: 1 where support for the class is strongest, 0 where there is none, or evidence against it. A
    two-sided probe puts mirror images before the images in the same pass: maps are of the images only.

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
    """Grad-CAM of each image at `explained_layer`: float32 (n, rows, columns), 0 to 1.

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

    They sum to the score of the image minus that of its mean colour, within TOLERANCE: STEPS are tried in turn until
    they do, and a warning says if the most were too few.
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
    """The names in MAPS that apply to `model`: Grad-CAM needs a convolution."""
    return [name for name in MAPS if name != "Grad-CAM" or explained_layer(model)]


def input_gradient(function, images):
    """Gradient of the summed outputs of `function`, given `images` as a float32 tensor: float32, their shape."""
    tf = _tensorflow()
    pixels = tf.convert_to_tensor(images, "float32")
    with tf.GradientTape() as tape:
        tape.watch(pixels)
        outputs = function(pixels)
    return tape.gradient(outputs, pixels).numpy()


def score_gradient(model, images, classes):
    """Gradient of the score of each image's class with respect to its pixels: float32, the shape of `images`."""
    return input_gradient(lambda pixels: log_odds(model(pixels, training=False), classes), images)


def _mean_gradient(model, start, image, asked, steps):
    """Mean gradient of the score of class `asked` at the midpoints of `steps` parts of the path: float32."""
    total, count = 0, images_at_once(image[None], with_maps=True)
    places = ((np.arange(steps, dtype="float32") + 0.5) / steps)[:, None, None, None]
    for first in range(0, steps, count):
        between = start + places[first : first + count] * (image - start)
        total += score_gradient(model, between, [asked] * len(between)).sum(axis=0)
    return total / steps


def log_odds(probabilities, classes):
    """Log-odds of `classes` (n,) under `probabilities` (n, classes), as tensors."""
    tf = _tensorflow()
    answer = tf.one_hot(classes, probabilities.shape[-1])
    for_it, against = (tf.reduce_sum(probabilities * part, axis=-1) for part in (answer, 1 - answer))
    return tf.math.log(for_it + TINY) - tf.math.log(against + TINY)


def _odds(probabilities, asked):
    """Odds of the class `asked`, as in `log_odds`, in NumPy."""
    probabilities = np.asarray(probabilities, "float64")
    return (probabilities[:, asked] + TINY) / (np.delete(probabilities, asked, axis=1).sum(axis=1) + TINY)


def asked_classes(model, images, classes):
    """`classes`, or the classes that `model` answers: int64 (n,)."""
    return predict(model, images, images_at_once(images)).argmax(axis=1) if classes is None else np.asarray(classes)


def images_at_once(images, with_maps=False):
    """How many of `images` make one batch; `with_maps`: where feature maps or gradients are held."""
    return max(1, (_WITH_MAPS if with_maps else _ANSWERED) // (images.shape[1] * images.shape[2]))


def mean_colour(image):
    """`image` (height, width, channels) with every pixel in its mean colour."""
    return np.broadcast_to(image.mean(axis=(0, 1)), image.shape)


def cell_numbers(images):
    """(each pixel's cell number (height, width), (rows, columns) of cells) for `images`."""
    shape = tuple(min(CELLS, side) for side in images.shape[1:3])
    rows, columns = (np.arange(side) * count // side for side, count in zip(images.shape[1:3], shape, strict=True))
    return rows[:, None] * shape[1] + columns, shape


def deletion_curve(model, images, order, classes=None):
    """Probability of `classes` as cells of the image are covered, in `order` (n, cells): float32 (n, 1 + LOOKS).

    The first column is for the whole image, the last for its mean colour alone. The sooner the curve falls, the better
    the order picks out what the answer rests on.
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
    """Whether each kind of map finds what the answer rests on, and depends on what was learned.

    `groups` (n,): the group each image belongs to (None: each is its own); `names` in MAPS (None: `maps_of`).
    Returns a DataFrame, one row per kind: map; images; deletion and random, the answer's mean probability while cells
    are covered, most important first or in random order; gain, random minus deletion, with its interval low and high
    over images, or groups; randomised, the mean rank correlation over cells with the map of the same network after its
    weights were shuffled within each array (a map that hardly changes shows the image, not the network), with
    randomised_low and randomised_high; flat, how many images have a map that is the same everywhere, before or after
    shuffling: they count as a correlation of 0.
    Source of the shuffling: Adebayo et al., Sanity checks for saliency maps (NeurIPS 2018), section 3.
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
    """A copy of `model` whose weights are shuffled within each array by a NumPy `generator`."""
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
    """Inside the block, call `see(layer, output)` whenever one of the layers `watched` is called.

    A second model from the inputs to the layer's output would do too, but cannot be built where the layer belongs to a
    nested model.
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
    """TensorFlow, which computes all of this; NotImplementedError where Keras runs on another backend."""
    if (backend := keras.backend.backend()) != "tensorflow":
        raise NotImplementedError(f"gradients need TensorFlow; Keras runs on {backend}: set KERAS_BACKEND=tensorflow")
    import tensorflow as tf

    return tf
