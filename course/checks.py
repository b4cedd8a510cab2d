"""One check per exercise: it takes a student's answer, and either accepts it or says what to look at.

A check raises `HintError` with one sentence, written for the mistake it found; for a mistake that nobody foresaw, the
sentence says what a right answer would do. Right answers are computed here, on inputs that expose the typical mistakes.
"""

import functools

import numpy as np
from scipy import ndimage, special

from cnnlab import measures
from sagemaker_scripts import reading

# For the convolution by hand: no two rows, columns or diagonals of either are alike.
PICTURE = np.array([[0, 0, 1, 2, 2], [0, 1, 2, 2, 1], [1, 2, 3, 1, 0], [2, 2, 1, 0, 0], [3, 1, 0, 0, 1]])
KERNEL = np.array([[1, 0, -1], [2, 0, -1], [0, 1, 0]])


class HintError(AssertionError):
    """An answer is not right yet; the message says what to look at."""

    def _render_traceback_(self):
        """What IPython shows in place of a traceback."""
        return [f"Not yet: {self}"]


def exercise(check):
    """Decorate a check: any failure becomes a HintError, and a right answer prints "Right."."""

    @functools.wraps(check)
    def checked(*answers):
        try:
            check(*answers)
        except HintError:
            raise
        except NotImplementedError:
            raise HintError("it still has the line `raise NotImplementedError()`; replace it with your own") from None
        except Exception as error:
            raise HintError(f"your code raises {type(error).__name__}: {error}") from error
        print("Right.")

    return checked


def _need(fine, hint):
    if not fine:
        raise HintError(hint)


def _equal(answer, expected, tolerance=1e-6):
    """Whether two numbers or arrays have the same shape and, within `tolerance`, the same values."""
    answer, expected = np.asarray(answer, "float64"), np.asarray(expected, "float64")
    return answer.shape == expected.shape and np.allclose(answer, expected, rtol=tolerance, atol=tolerance)


def _compare(answer, right, mistakes, otherwise):
    """Raise HintError unless `answer` equals `right`: its hint in `mistakes` [(answer, hint)], else `otherwise`."""
    _need(answer is not None, "there is no answer: is a `return` missing, or is the value still None?")
    if _equal(answer, right):
        return
    raise HintError(next((hint for wrong, hint in mistakes if _equal(answer, wrong)), otherwise))


@exercise
def locality(correlation):
    """`correlation(picture, distance)`: of pixels with those `distance` to their right, a number."""
    picture = np.random.default_rng(0).integers(0, 256, (6, 9)).cumsum(axis=1).astype("uint16")
    for distance in (1, 3):
        left, right = picture[:, :-distance].astype("float64"), picture[:, distance:].astype("float64")
        flat, down = picture.ravel(), (picture[:-distance], picture[distance:])
        around = np.roll(picture, -distance, axis=1)
        answer = correlation(picture, distance)
        _compare(
            answer,
            _pearson(left, right),
            [
                (np.corrcoef(left.ravel(), right.ravel()), "np.corrcoef returns a table of all pairs; take its [0, 1]"),
                (_pearson(picture, around), "np.roll brings back on one side what leaves on the other; cut it off"),
                (
                    _pearson(flat[:-distance], flat[distance:]),
                    "once flattened, a row's last pixel is followed by the next row's first; cut before .ravel()",
                ),
                (_pearson(*down), "these are the neighbours below; columns are the second axis: picture[:, ...]"),
                (np.cov(left.ravel(), right.ravel())[0, 1], "a covariance; divide by both standard deviations"),
            ],
            "compare picture[:, :-distance] with picture[:, distance:], each pixel with the one to its right",
        )


def _pearson(first, second):
    return np.corrcoef(np.ravel(first), np.ravel(second))[0, 1]


@exercise
def split(held_out):
    """`held_out(frames, seed)`: which files are held out, bool (files,), whole frames only."""
    generator = np.random.default_rng(0)
    frames = generator.permutation(np.repeat([f"frame{number:02}" for number in range(40)], 6))
    masks = [np.asarray(held_out(frames.copy(), seed)) for seed in (0, 0, 1, 2)]
    _need(
        masks[0].dtype == bool and masks[0].shape == frames.shape,
        f"expected True or False for each of {len(frames)} files, not {masks[0].dtype} {masks[0].shape}: see np.isin",
    )
    for mask in masks:
        leaked = np.intersect1d(frames[mask], frames[~mask])
        _need(
            not len(leaked),
            f"{len(leaked)} of 40 frames have files on both sides: draw frames, then take all files of each",
        )
        count = len(np.unique(frames[mask]))
        _need(8 <= count <= 12, f"{count} of 40 frames are held out; expected a quarter")
    _need(_equal(masks[0], masks[1]), "the same seed gives two different splits: draw from np.random.default_rng(seed)")
    _need(not _equal(masks[0], masks[2]), "all seeds give the same split: draw from np.random.default_rng(seed)")


@exercise
def not_knowing(loss):
    """`loss(classes)`: cross-entropy, in nats, of equal probabilities."""
    for classes in (10, 24):
        _compare(
            loss(classes),
            np.log(classes),
            [
                (-np.log(classes), "a loss is not negative: the log of a probability is, so change its sign"),
                (np.log10(classes), "that is log10; cross-entropy takes the natural logarithm, np.log"),
                (np.log2(classes), "that is in bits; Keras uses nats: the natural logarithm, np.log"),
                (1 / classes, "that is the probability of each class; the loss is minus its logarithm"),
                (1 - 1 / classes, "that is how often a guess is wrong; the loss is minus a logarithm of a probability"),
            ],
            "each class gets the probability 1 / classes; the loss is minus the logarithm of the true class's",
        )


@exercise
def nearest_neighbour(nearest):
    """`nearest(known, known_labels, asked)`: the label of the known picture most like each asked one."""
    generator = np.random.default_rng(0)
    known = generator.uniform(0, 100, (6, 12)) * np.array([[0.2], [1], [0.5], [2], [0.3], [1]])
    known[3] += 150  # the brightest, but no more similar for that
    labels = np.array([7, 3, 5, 9, 2, 4])
    asked = 0.6 * known + 20 + generator.normal(0, 0.5, known.shape)  # in another light
    likeness = np.corrcoef(asked, known)[: len(asked), len(asked) :]
    distance = ((asked[:, None] - known[None]) ** 2).sum(axis=2)
    normed = known / np.linalg.norm(known, axis=1, keepdims=True)
    _compare(
        nearest(known.copy(), labels.copy(), asked.copy()),
        labels[likeness.argmax(axis=1)],
        [
            (likeness.argmax(axis=1), "these are row numbers of `known`; look up their labels: known_labels[rows]"),
            (labels[likeness.argmin(axis=1)], "these are the least similar pictures: a high correlation means similar"),
            (labels[(asked @ known.T).argmax(axis=1)], "a product favours bright pictures: first subtract each mean"),
            (
                labels[(asked @ normed.T).argmax(axis=1)],
                "you divided by the length with the brightness still in: first subtract each picture's mean",
            ),
            (
                labels[distance.argmin(axis=1)],
                "a distance takes another light for another picture; use the correlation, which does not",
            ),
        ],
        "for each asked picture, find the known one with the highest correlation, and answer with its label",
    )


@exercise
def convolution(answer):
    """`answer` (3, 3): PICTURE convolved with KERNEL, without padding."""
    valid = _correlate(PICTURE, KERNEL)
    turned = _correlate(PICTURE, KERNEL[::-1, ::-1])
    whole = ndimage.correlate(PICTURE, KERNEL, mode="constant")
    _compare(
        answer,
        valid,
        [
            (turned, "you rotated the kernel by half a turn, as mathematics does; a network applies it as it is"),
            (_correlate(PICTURE, KERNEL.T), "rows and columns of the kernel are swapped"),
            (valid.T, "rows and columns of the answer are swapped"),
            (whole, "that is with padding; without it, the kernel has three places in each direction"),
            (np.maximum(valid, 0), "that is after a ReLU; the convolution alone keeps negative values"),
            (PICTURE[1:4, 1:4] * KERNEL, "add the nine products up to one number, then move the kernel on by a pixel"),
        ],
        _first_difference(answer, valid),
    )


def _correlate(picture, kernel):
    return ndimage.correlate(picture, kernel, mode="constant")[1:-1, 1:-1]


def _first_difference(answer, right):
    if np.shape(answer) != right.shape:
        return f"its shape is {np.shape(answer)}; a kernel of (3, 3) has (3, 3) places in a picture of (5, 5)"
    wrong = np.argwhere(np.asarray(answer) != right).tolist()
    place = next(iter(wrong), None)  # also asked where nothing is wrong
    return f"{len(wrong)} of 9 are not right; at row and column {place}, from 0, add up the nine products again"


@exercise
def parameters(dense, convolution):
    """`dense(inputs, outputs)` and `convolution(kernel_size, channels, filters)`: numbers of trained parameters."""
    for inputs, outputs in ((3_072, 128), (64, 10)):
        _compare(
            dense(inputs, outputs),
            (inputs + 1) * outputs,
            [
                (inputs * outputs, "dense: the biases are missing, one for each output"),
                (inputs * outputs + inputs, "dense: a bias belongs to an output, not to an input"),
                (inputs * outputs + 1, "dense: each output has its own bias; they do not share one"),
            ],
            "dense: a weight for each pair of an input and an output, and a bias for each output",
        )
    for size, channels, filters in ((5, 3, 32), (3, 32, 64)):
        weights = size * size * channels * filters
        _compare(
            convolution(size, channels, filters),
            weights + filters,
            [
                (weights, "convolution: the biases are missing, one for each filter"),
                ((size * size + 1) * filters, "convolution: a filter has weights for each channel of its input"),
                (size * size * filters, "convolution: the channels are missing, and so are the biases"),
                ((size * channels + 1) * filters, "convolution: a kernel has two sides: kernel_size ** 2"),
                ((size * size + 1) * channels * filters, "convolution: one bias for each filter, not for each channel"),
            ],
            "convolution: kernel_size ** 2 weights for each pair of channel and filter, and a bias for each filter",
        )


@exercise
def receptive_field(field):
    """`field(layers)`: how many pixels a unit after `layers` [(window, stride)] sees along each axis."""
    for layers in ([(3, 1), (3, 1)], [(3, 1), (2, 2), (3, 1), (2, 2), (3, 1)], [(5, 2), (3, 1)]):
        late, step, early, too_soon, whole = 1, 1, 1, 1, 1
        for window, stride in layers:
            late += (window - 1) * step
            whole += window * step
            step *= stride
            too_soon *= stride
            early += (window - 1) * too_soon
        _compare(
            field(list(layers)),
            late,
            [
                (sum(window for window, _ in layers), "windows overlap: each adds window - 1, not window"),
                (whole, "windows overlap: each adds window - 1, not window"),
                (late - 1, "a unit sees at least its own pixel: begin with 1"),
                (
                    1 + sum(window - 1 for window, _ in layers),
                    "after a stride of 2 a step is two pixels: multiply what a layer adds by the strides before it",
                ),
                (early, "a layer's own stride widens what comes after it, not its own window: multiply the step last"),
                (np.prod([window for window, _ in layers]), "windows add up; only strides multiply"),
            ],
            "start with a field and a step of 1; a layer adds (window - 1) * step, then the step grows by its stride",
        )


@exercise
def batch_normalisation(left_over, repair):
    """`left_over(momentum, steps)`, a share; `repair(norm, values)` changes the layer's running statistics."""
    for momentum, steps in ((0.99, 50), (0.9, 10)):
        kept = momentum**steps
        _compare(
            left_over(momentum, steps),
            kept,
            [
                (1 - kept, "that is what the batches have contributed; the start keeps what is left of 1"),
                (1 - momentum, "that is what one batch contributes; the start is multiplied by momentum at each step"),
                (momentum * steps, "steps multiply, they do not add up: momentum ** steps"),
                (1 - steps * (1 - momentum), "steps multiply, they do not add up: momentum ** steps"),
            ],
            "each step keeps the share `momentum` of what was there: what is left of the start after that many steps?",
        )
    _check_repair(repair)


def _check_repair(repair):
    import keras

    values = np.random.default_rng(0).normal([1, -2, 3, 0.5], [2, 0.3, 1.5, 4], (32, 5, 5, 4)).astype("float32")
    mean, variance, zero, one = values.mean(axis=(0, 1, 2)), values.var(axis=(0, 1, 2)), np.zeros(4), np.ones(4)
    norm = keras.layers.BatchNormalization()
    norm.build(values.shape)
    repair(norm, values.copy())
    _need(
        _equal(norm.gamma.numpy(), one) and _equal(norm.beta.numpy(), zero),
        "scale and shift have changed, but they were trained; only the running mean and variance are wrong",
    )
    # Single precision.
    near = functools.partial(_equal, tolerance=1e-4)
    found_mean, found_variance = norm.moving_mean.numpy(), norm.moving_variance.numpy()
    _need(
        not (near(found_mean, zero) and near(found_variance, one)),
        "nothing has changed: assign to norm.moving_mean and to norm.moving_variance",
    )
    _need(
        not near(found_mean, 0.01 * mean),
        "one pass in training mode moves the statistics only a hundredth of the way; assign what they should be",
    )
    _need(near(found_mean, mean), "the mean is not that of `values`, one number per channel: mean(axis=(0, 1, 2))")
    _need(not near(found_variance, one), "the mean is right, but the variance is still where it started")
    _need(not near(found_variance, np.sqrt(variance)), "that is the standard deviation; Keras keeps the variance")
    _need(near(found_variance, variance), "the variance is not that of `values`, one number per channel")


@exercise
def interval(verdict):
    """`verdict(low, high, margin)`: what the interval for a difference says; more is better."""
    cases = [
        ((0.4, 2.9), "better", "all of it lies above zero, and some of it beyond the margin"),
        ((-2.9, -0.4), "worse", "all of it lies below zero: the first variant is the worse one"),
        ((-0.4, 0.5), "same", "it holds zero, and nothing as large as the margin: sameness is shown, not unknown"),
        ((-0.5, 3.0), "cannot tell", "that it holds zero does not show that they are alike: it holds much more"),
        ((-6.0, 1.5), "cannot tell", "it reaches from much worse to better: nothing is shown"),
        ((0.1, 0.6), "same", "there is a difference, but the whole interval is smaller than what would matter"),
    ]
    for (low, high), right, hint in cases:
        for scale in (1.0, 0.01):
            answer = verdict(low * scale, high * scale, scale)
            _need(
                answer == right,
                f"from {low * scale:g} to {high * scale:g} with a margin of {scale:g}, you say {answer!r}; {hint}",
            )


@exercise
def shift(difference):
    """`difference(features, picture, right)`: the largest difference between moving first and moving last."""
    picture = np.random.default_rng(0).normal(size=(9, 24))
    kernel = np.array([[1.0, 2, 0], [0, -1, 3], [1, 0, -2]])

    def convolved(picture):
        return ndimage.correlate(picture, kernel, mode="constant")

    def placed(picture):
        return convolved(picture) + 2.0 * np.arange(picture.shape[1])

    for right in (1, 3):
        answer = difference(convolved, picture.copy(), right)
        moved = convolved(np.roll(picture, right, axis=1))
        inside = slice(right + 2, -right - 2)
        whole = np.abs(moved - np.roll(convolved(picture), right, axis=1)).max()
        still = np.abs(moved - convolved(picture))
        sunk = np.abs(moved - np.roll(convolved(picture), right, axis=0))
        unmoved = "one of the two has not moved: compare the features of the moved picture with the moved features"
        _compare(
            answer,
            0,
            [
                (whole, "the border is still in it, where padding shows: leave out right + 2 columns on both sides"),
                (still[:, inside].max(), unmoved),
                (still.max(), unmoved),
                (sunk[:, inside].max(), "one of the two is moved down: columns are axis=1"),
            ],
            "move the picture and take its features; take features and move them; compare columns away from the border",
        )
        _need(
            _equal(difference(placed, picture.copy(), right), 2 * right),
            "features that depend on position give 0 too: is one of the two not computed, or moved twice?",
        )


@exercise
def permutation(permuted):
    """`permuted(images, order)`: pixel k of each new picture is pixel order[k] of the old one."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (3, 4, 5, 3)).astype("uint8")
    images[2] = images[0]
    order, given = generator.permutation(20), images.copy()
    answer = permuted(images, order)
    _need(_equal(images, given), "you changed the pictures that you were given; return new ones")
    answer = np.asarray(answer)
    _need(answer.shape == given.shape, f"the shape is {answer.shape}; expected that of the pictures, {given.shape}")
    flat = given.reshape(3, 20, 3)
    _compare(
        answer,
        flat[:, order].reshape(given.shape),
        [
            (flat[:, np.argsort(order)].reshape(given.shape), "the other way round: new pixel k is old pixel order[k]"),
            (given, "nothing has moved"),
        ],
        "pictures that were identical now differ: use one order for all, not a new one for each"
        if not _equal(answer[0], answer[2])
        else "a pixel's three colours have been torn apart: flatten height and width, and keep the channels"
        if set(map(tuple, answer[0].reshape(20, 3))) != set(map(tuple, flat[0]))
        else "merge height and width into one axis, take pixels by `order`, and reshape to the pictures' shape",
    )


@exercise
def same_filters(likeness):
    """`likeness(first, second)`: mean correlation of filter k with filter k, kernels (height, width, channels, n)."""
    generator = np.random.default_rng(0)
    sizes = np.array([0.1, 1, 3, 10, 0.5, 2])
    first = generator.normal(size=(3, 3, 1, 6)) * sizes + sizes
    second = (first + generator.normal(size=first.shape) * sizes) * np.roll(sizes, 2)
    table = np.corrcoef(first.reshape(-1, 6).T, second.reshape(-1, 6).T)[:6, 6:]
    torn = np.corrcoef(first.reshape(6, -1), second.reshape(6, -1))[:6, 6:]
    _compare(
        likeness(first.copy(), second.copy()),
        np.diag(table).mean(),
        [
            (table.max(axis=1).mean(), "that is each filter's best match, which chance finds too; compare k with k"),
            (table.mean(), "that compares each filter with all others; compare filter k with filter k alone"),
            (np.diag(torn).mean(), "filters are the last axis: reshape to (-1, filters), and take columns"),
            (_pearson(first, second), "all weights at once: large filters drown small ones; correlate each filter"),
            (np.diag(table).sum(), "that is the sum over the filters; expected the mean"),
        ],
        "for each k, correlate the numbers of first[..., k] with those of second[..., k], and take the mean",
    )


@exercise
def what_decides(decides):
    """`decides`: "seed" or "data"."""
    _need(decides in ("seed", "data"), f'you say {decides!r}; expected "seed" or "data"')
    _need(decides == "seed", "look again: other pictures left the filters nearly alike, another seed did not")


@exercise
def calibration(temperature, chosen, validation, test):
    """`temperature(logits, labels)`; `chosen`: the one for `validation`, a pair of logits and labels, not `test`."""
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 6, (4_000, 5))
    labels = (special.softmax(logits / 2.5, axis=1).cumsum(axis=1) > generator.random((4_000, 1))).argmax(axis=1)
    right = measures.fit_temperature(special.softmax(logits, axis=1), labels)
    answer = temperature(logits.copy(), labels.copy())
    _need(answer is not None and np.ndim(answer) == 0, "expected one number, the temperature")
    _need(
        not _equal(answer, 1 / right, 0.05),
        "that is one over the temperature: logits are divided by it, so above 1 it makes a network less sure",
    )
    _need(
        answer > 0.6,
        "so low a temperature makes the network as sure as can be: do you minimise minus the log-probability?",
    )
    _need(
        _equal(answer, right, 0.05),
        f"{answer:.2f} does not minimise the loss on these labels; accuracy cannot tell, as no answer changes: "
        "for each candidate, compute the mean of -log_softmax(logits / candidate) of the true classes",
    )
    _need(chosen is not None, "`chosen` is still None: on which pictures should it be fitted?")
    expected, leaked = temperature(*validation), temperature(*test)
    _need(
        not _equal(chosen, leaked, 1e-9) or _equal(expected, leaked, 1e-9),
        "`chosen` was fitted on the test images, which are to judge it: fit it on validation",
    )
    _need(_equal(chosen, expected, 1e-9), "`chosen` is not temperature(...) of the validation logits and labels")


@exercise
def serving(request):
    """`request(picture)`: (body, content type) that asks an endpoint about one picture, in JSON."""
    picture = np.random.default_rng(0).integers(0, 256, (4, 5, 1)).astype("uint8")
    answer = request(picture)
    _need(isinstance(answer, tuple) and len(answer) == 2, "expected two things: the body and its content type")
    body, kind = answer
    _need(not isinstance(body, str), "the body is text; a request carries bytes: .encode()")
    _need(isinstance(body, bytes), f"the body is {type(body).__name__}; expected bytes, from json.dumps(...)")
    _need(kind == "application/json", f"the content type is {kind!r}; expected 'application/json'")
    try:
        pixels = reading.decode(body, kind, picture.shape)
    except reading.RequestError as error:
        raise HintError(f"the endpoint refuses it: {error.message}") from None
    values = np.array(list(pixels.values))
    _need(pixels.shape[0] == 1, f"that asks about {pixels.shape[0]} pictures; expected one")
    _need(
        _equal(values, picture.ravel()),
        "the endpoint reads other pixels than the picture's: send them as they are, 0 to 255, row by row",
    )
