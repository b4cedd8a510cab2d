"""Accuracy on worse images: corrupted in several kinds and strengths, or perturbed slightly against a network.

Throughout: `images` uint8 (n, height, width, 1 or 3), grey or RGB; `labels` (n,) integers; `model` maps such pixels to
probabilities (n, classes). Amounts are for images of 32x32 pixels.
"""

import io
from itertools import product

import numpy as np
import pandas as pd
from PIL import Image
from scipy import ndimage

from cnnlab.measures.attribution import images_at_once, score_gradient
from cnnlab.training import accuracy, predict

STRENGTHS = (1, 2, 3, 4, 5)
UNCHANGED, FGSM = "unchanged", "FGSM"
# How far every value is moved against the network, out of 255.
FGSM_STEPS = (1, 2, 4, 8)


def corrupt(images, kind, strength, seed=0):
    """`images` corrupted by `kind`, a key of KINDS, at one of STRENGTHS: uint8, the same shape; `seed` draws the noise.

    Raises ValueError for another kind or strength, and for other arrays.
    Source: Hendrycks and Dietterich, "Benchmarking neural network robustness to common corruptions and perturbations"
    (ICLR 2019), section 3; the amounts are those of their CIFAR-10-C, except for blur and fog, made otherwise.
    """
    if kind not in KINDS:
        raise ValueError(f"no corruption is called {kind!r}; expected one of {', '.join(KINDS)}")
    if strength not in STRENGTHS:
        raise ValueError(f"strength is {strength!r}; expected a whole number from 1 to {STRENGTHS[-1]}")
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(f"images are {images.dtype} {images.shape}; expected uint8 (n, height, width, 1 or 3)")
    function, amounts = KINDS[kind]
    generator = np.random.default_rng([seed, list(KINDS).index(kind), strength])
    changed = function(images / np.float32(255), amounts[strength - 1], generator)
    return np.rint(255 * np.clip(changed, 0, 1)).astype("uint8")


def _gaussian_noise(shares, deviation, generator):
    return shares + deviation * generator.standard_normal(shares.shape, "float32")


def _shot_noise(shares, photons, generator):
    """White is `photons` photons on average, darker values fewer."""
    return generator.poisson(shares * photons) / photons


def _defocus_blur(shares, radius, _):
    """A point becomes a disk of `radius` pixels."""
    reach = int(np.ceil(radius))
    # The share of each pixel that the disk covers, sampled at 11 x 11 points.
    fine = (np.arange((2 * reach + 1) * 11) + 0.5) / 11 - reach - 0.5
    covered = fine[:, None] ** 2 + fine**2 <= radius**2
    disk = covered.reshape(2 * reach + 1, 11, 2 * reach + 1, 11).sum(axis=(1, 3))
    return ndimage.convolve(shares, (disk / disk.sum()).astype("float32")[None, ..., None], mode="mirror")


def _pixelate(shares, share, _):
    """Shrink each side to `share` of its pixels, then enlarge it again."""
    height, width = shares.shape[1:3]
    fewer = max(1, int(width * share)), max(1, int(height * share))
    boxes = Image.Resampling.BOX
    return _by_pillow(shares, lambda picture: picture.resize(fewer, boxes).resize((width, height), boxes))


def _jpeg(shares, quality, _):
    def kept(picture):
        picture.save(file := io.BytesIO(), "JPEG", quality=quality)
        return Image.open(file)

    return _by_pillow(shares, kept)


def _brightness(shares, more, _):
    """Raise the value in HSV by `more`; black has no hue and becomes grey."""
    value = shares.max(axis=-1, keepdims=True)
    brighter = np.minimum(value + np.float32(more), 1)
    return np.where(value > 0, shares * (brighter / np.maximum(value, 1e-6)), brighter)


def _contrast(shares, share, _):
    mean = shares.mean(axis=(1, 2), keepdims=True)
    return mean + share * (shares - mean)


def _fog(shares, density, generator):
    """A bright random field over each image, smooth like clouds: amplitudes fall with frequency."""
    count, height, width, _ = shares.shape
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    frequency[0, 0] = np.inf
    waves = np.fft.rfft2(generator.standard_normal((count, height, width))) * frequency**-1.5
    field = np.fft.irfft2(waves, (height, width))
    field -= field.min(axis=(1, 2), keepdims=True)
    field /= np.maximum(field.max(axis=(1, 2), keepdims=True), 1e-9)
    brightest = shares.max(axis=(1, 2, 3), keepdims=True)
    return (shares + density * field[..., None]) * brightest / (brightest + density)


def _by_pillow(shares, change):
    """Apply `change`, a function of a Pillow image, to each of `shares`."""
    pixels = np.rint(255 * shares).astype("uint8")
    grey = pixels.shape[-1] == 1
    changed = [np.asarray(change(Image.fromarray(each[..., 0] if grey else each))) for each in pixels]
    return np.stack(changed).reshape(shares.shape) / np.float32(255)


# For each kind, its function and the amounts of the five strengths.
KINDS = {
    "Gaussian noise": (_gaussian_noise, (0.04, 0.06, 0.08, 0.09, 0.10)),
    "shot noise": (_shot_noise, (500, 250, 100, 75, 50)),
    "defocus blur": (_defocus_blur, (0.6, 0.8, 1.0, 1.5, 2.0)),
    "pixelate": (_pixelate, (0.95, 0.9, 0.85, 0.75, 0.65)),
    "JPEG": (_jpeg, (80, 65, 58, 50, 40)),
    "brightness": (_brightness, (0.05, 0.1, 0.15, 0.2, 0.3)),
    "contrast": (_contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
    "fog": (_fog, (0.2, 0.5, 0.75, 1.0, 1.5)),
}


def fgsm(model, images, labels):
    """A list of `images` moved against `model`, one array for each of FGSM_STEPS: uint8, the same shape.

    Every value moves by the whole step, up or down, whichever raises the loss of the true class.
    Source: Goodfellow, Shlens and Szegedy, "Explaining and harnessing adversarial examples" (ICLR 2015), section 4.
    """
    count = images_at_once(images, with_maps=True)
    parts = [slice(start, start + count) for start in range(0, len(images), count)]
    # The loss falls as the log-odds grow, whose gradient does not vanish where the network is sure.
    gradients = np.concatenate([score_gradient(model, images[part], labels[part]) for part in parts])
    signs = -np.sign(gradients).astype("int16")
    return [np.clip(images + step * signs, 0, 255).astype("uint8") for step in FGSM_STEPS]


def accuracy_when_changed(model, images, labels):
    """`accuracy_of` the images unchanged, corrupted, and moved by `fgsm`; all networks see the same corrupted images.

    The kind is UNCHANGED, with strength 0; one of KINDS; or FGSM, with the step as strength.
    """

    def sets():
        yield UNCHANGED, 0, images, labels
        for kind, strength in product(KINDS, STRENGTHS):
            yield kind, strength, corrupt(images, kind, strength), labels
        for step, moved in zip(FGSM_STEPS, fgsm(model, images, labels), strict=True):
            yield FGSM, step, moved, labels

    return accuracy_of(model, sets())


def accuracy_of(model, sets):
    """Accuracy on each of `sets`, (kind, strength, images, labels): a DataFrame of kind, strength, images, accuracy."""
    rows = [
        (kind, strength, len(images), accuracy(predict(model, images), labels))
        for kind, strength, images, labels in sets
    ]
    return pd.DataFrame(rows, columns=["kind", "strength", "images", "accuracy"])


def mean_over_strengths(rows):
    """The probe `corruptions` with networks side by side: kind, seed (the number of the pair, from 0), and each label.

    FGSM has one kind per step, "FGSM by 2 of 255"; the others have the mean accuracy over strengths. Pairs that lack a
    network are left out.
    """
    steps = " by " + rows["strength"].astype(str) + " of 255"
    kinds = rows["kind"] + steps.where(rows["kind"] == FGSM, "")
    pairs = rows.groupby("label")["seed"].rank("dense").astype("int64") - 1
    wide = rows.assign(kind=kinds, seed=pairs).pivot_table("accuracy", ["kind", "seed"], "label", sort=False)
    return wide.dropna().reset_index()
