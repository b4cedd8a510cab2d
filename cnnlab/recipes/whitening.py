"""The first layer without training: filters that whiten the patches of the training images."""

import numpy as np

# The patches of so many images are known well enough: a few million.
IMAGES = 5_000
# Added to each variance, of pixels in 0..1, so that directions in which natural images hardly vary
# are not blown up to noise.
EPSILON = 3e-5


def whitening_filters(images, size, epsilon=EPSILON):
    """(kernel, bias) of a convolution whose outputs on `images` are uncorrelated, of variance one.

    `images` uint8 (n, height, width, channels); `size` of the square patches in pixels;
    `epsilon`, see EPSILON. The convolution takes pixels in 0..1, pads nothing, and puts out
    each component of the patches' principal component analysis, largest variance first, and
    after them their negatives, for an activation that cuts negative values would lose half.
    Returns float32 kernel (size, size, channels, 2 x size x size x channels) and bias (filters,).
    Source: Page, How to train your ResNet 8 (2019), patch whitening; with the negatives, Jordan,
    94% on CIFAR-10 in 3.29 seconds on a single GPU (2024, arXiv 2404.00498).
    """
    windows = np.lib.stride_tricks.sliding_window_view(images[:IMAGES], (size, size), axis=(1, 2))
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
