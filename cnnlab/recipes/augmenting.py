"""Training images mirrored and moved, in an order that is drawn anew each epoch."""

import numpy as np

from cnnlab.batches import ShuffledBatches

# Keeps these random numbers apart from those that draw the order: NumPy pads keys with zeros, so
# that (seed, epoch) and (seed, epoch, step 0) alone would give the same ones.
STREAM = 1


class AugmentedBatches(ShuffledBatches):
    """`ShuffledBatches` whose images are mirrored and moved as a recipe says.

    `flip`: "none"; "random", each image with probability 1/2; or "alternating", each image in
    every second epoch, half of them in the first: two epochs show both sides of every image
    (Jordan, 2024, "alternating flip"); `translate`: at most so many pixels in each direction;
    `labels`: what training compares with, one row an image.
    """

    def __init__(self, images, labels, batch_size, seed, flip="none", translate=0, steps_per_epoch=None):
        self.flip, self.translate = flip, translate
        self.first_mirrored = _generator(seed).random(len(images)) < 0.5
        super().__init__(images, labels, batch_size, seed, steps_per_epoch)

    def __getitem__(self, step):
        chosen = self.order[step * self.batch_size : (step + 1) * self.batch_size]
        # Step 0 of epoch 0 has a key of its own, because what mirrors the first epoch has the seed's.
        generator = _generator(self.seed, self.epoch, step + 1)
        images = mirror(self.images[chosen], self._mirrored(chosen, generator))
        return translate(images, self.translate, generator), self.labels[chosen]

    def _mirrored(self, chosen, generator):
        if self.flip == "alternating":
            return self.first_mirrored[chosen] ^ (self.epoch % 2 == 1)
        drawn = generator.random(len(chosen)) < 0.5
        return drawn if self.flip == "random" else np.zeros_like(drawn)


def _generator(*key):
    return np.random.default_rng(np.random.SeedSequence(key, spawn_key=(STREAM,)))


def mirror(images, which):
    """`images` (n, height, width, channels), those where `which` (n,) is true mirrored left to right."""
    return np.where(which[:, None, None, None], images[:, :, ::-1], images)


def translate(images, pixels, generator):
    """Each of `images` moved by -`pixels` to `pixels`, down and right alike; edges are reflected."""
    if not pixels:
        return images
    count, height, width, _ = images.shape
    padded = np.pad(images, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
    down, right = generator.integers(0, 2 * pixels + 1, (2, count))
    return np.ascontiguousarray(np.moveaxis(windows[np.arange(count), down, right], 1, -1))
