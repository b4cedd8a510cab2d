"""Random changes of training images that leave their class as it is: uint8 in, uint8 out."""

import numpy as np

# Pixels a picture may move; 4 of 32 is the custom on CIFAR-10 since He et al. 2016
# (Deep Residual Learning, section 4.2).
MAX_SHIFT_SHARE = 1 / 8


def keep(images, generator):
    """No augmentation: `images` as they are."""
    return images


def flip(images, generator):
    """Mirror each of `images` (n, height, width, channels) left to right with probability 1/2."""
    mirrored = generator.random(len(images)) < 0.5
    return np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)


def flip_translate(images, generator):
    """`flip`, then move each image by up to an eighth of its side, edges reflected."""
    count, height, width, _ = images.shape
    reach = max(1, round(min(height, width) * MAX_SHIFT_SHARE))
    padded = np.pad(flip(images, generator), ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="reflect")
    down, right = generator.integers(0, 2 * reach + 1, (2, count))
    rows = down[:, None] + np.arange(height)  # (n, height)
    columns = right[:, None] + np.arange(width)  # (n, width)
    return padded[np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]


AUGMENTATIONS = {"none": keep, "flip": flip, "flip_translate": flip_translate}
