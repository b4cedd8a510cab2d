"""Initial weights that are computed, not drawn: filters that whiten patches, and filters that copy their input."""

import keras
import numpy as np
from keras import layers

# Whitening: this many images have enough patches, a few million. Epsilon is added to each variance, of
# pixels in 0..1, so that directions in which natural images hardly vary are not amplified into noise.
WHITENING_IMAGES, WHITENING_EPSILON = 5_000, 3e-5


def set_initial_weights(model, network, images):
    """Set the initial weights of `model` that `network` (a `networks.Blocks`) computes; the others stay as drawn.

    `images`: the training images, uint8 (n, height, width, channels), from which whitening is computed.
    """
    if getattr(network, "whitening", False):
        layer = model.get_layer("whitening")
        layer.set_weights(whitening_filters(images, layer.kernel_size[0]))
    if getattr(network, "dirac", False):
        for layer in model.layers:
            if isinstance(layer, layers.Conv2D) and layer.kernel_size == (3, 3):
                layer.kernel.assign(dirac(keras.ops.convert_to_numpy(layer.kernel)))


def whitening_filters(images, size, epsilon=WHITENING_EPSILON):
    """(kernel, bias) of a convolution whose outputs on `images` are uncorrelated, with variance one.

    `images` uint8 (n, height, width, channels); `size`: side of the square patches in pixels;
    `epsilon`: see WHITENING_EPSILON. The convolution takes pixels in 0..1 without padding and outputs
    the principal components of the patches, largest variance first, and then their negatives,
    because an activation that cuts off negative values would otherwise lose half.
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
    """`kernel` (height, width, inputs, outputs) with its first filters replaced by copies of the inputs, one each.

    The first min(inputs, outputs) filters become a one at the centre of their own channel; the
    rest stay as they are. A stack of such layers starts out as a shallow one, through which the
    gradient passes unchanged. Source: Zagoruyko and Komodakis, DiracNets (2017); for some of the
    filters only, Jordan (2024), "identity initialization". Sizes must be odd. Returns a new array.
    """
    height, width, inputs, outputs = kernel.shape
    copies = np.arange(min(inputs, outputs))
    changed = kernel.copy()
    changed[..., copies] = 0
    changed[height // 2, width // 2, copies, copies] = 1
    return changed
