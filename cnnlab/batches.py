"""The order in which training sees its images: drawn anew each epoch, the same for a seed."""

import math

import keras
import numpy as np

from cnnlab.augmentation import AUGMENTATIONS

# Enough that training never waits for a batch, and few enough to weigh nothing.
PREFETCHED_BATCHES = 8


class ShuffledBatches(keras.utils.PyDataset):
    """Batches of (images, labels[, weights]) in a new order every epoch.

    `keras.utils.set_random_seed(s)` and `fit(x, y)` repeat one order in all epochs on the
    TensorFlow backend, which costs about three points of accuracy on CIFAR-10; here epoch e
    takes its order from the generator seeded with (seed, e), so that an interrupted training
    resumed at e sees what it would have seen.

    `images` uint8 (n, height, width, channels); `labels` integers (n,); `steps_per_epoch`
    batches an epoch, by default one pass; with more, the passes follow one another, each in
    an order of its own. The images that do not fill the last batch wait for another epoch.
    """

    def __init__(self, images, labels, batch_size, seed, steps_per_epoch=None, augment="none", class_weights=None):
        super().__init__()
        self.images, self.labels, self.seed = images, labels, seed
        self.batch_size = min(batch_size, len(images))
        self.steps = steps_per_epoch or len(images) // self.batch_size
        self.augment = AUGMENTATIONS[augment]
        self.class_weights = class_weights
        self.start_epoch(0)

    def start_epoch(self, epoch):
        """Draw the order of `epoch` (from 0)."""
        self.epoch = epoch
        generator = np.random.default_rng([self.seed, epoch])
        wanted = self.steps * self.batch_size
        passes = math.ceil(wanted / len(self.images))
        self.order = np.concatenate([generator.permutation(len(self.images)) for _ in range(passes)])[:wanted]

    def __len__(self):
        return self.steps

    def __getitem__(self, step):
        chosen = self.order[step * self.batch_size : (step + 1) * self.batch_size]
        generator = np.random.default_rng([self.seed, self.epoch, step])
        images, labels = self.augment(self.images[chosen], generator), self.labels[chosen]
        if self.class_weights is None:
            return images, labels
        return images, labels, self.class_weights[labels]


class OrderedBatches(keras.utils.PyDataset):
    """All of (images, labels) in their order, the last batch as small as it must be."""

    def __init__(self, images, labels, batch_size):
        super().__init__()
        self.images, self.labels, self.batch_size = images, labels, batch_size

    def __len__(self):
        return math.ceil(len(self.images) / self.batch_size)

    def __getitem__(self, step):
        chosen = slice(step * self.batch_size, (step + 1) * self.batch_size)
        return self.images[chosen], self.labels[chosen]


class NewOrder(keras.callbacks.Callback):
    """Draws the order of each epoch of `batches` (ShuffledBatches) as the epoch begins."""

    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def on_epoch_begin(self, epoch, logs=None):
        self.batches.start_epoch(epoch)


def feed(batches):
    """`batches` in the form that `fit` reads fastest on Keras's present backend.

    Where Keras wraps data for TensorFlow itself, tf.data's autotuner stays on, and the end of
    an iterator waits for the tuner's sleep, which doubles from 10 ms: an epoch of 11 s then
    takes up to 20 s (measured with TensorFlow 2.21). So the pipeline is made here, without it.
    """
    if keras.backend.backend() != "tensorflow":
        return batches
    import tensorflow as tf

    def one_epoch():
        for step in range(len(batches)):
            yield batches[step]

    signature = tuple(tf.TensorSpec((None, *a.shape[1:]), a.dtype) for a in batches[0])
    options = tf.data.Options()
    options.autotune.enabled = False
    pipeline = tf.data.Dataset.from_generator(one_epoch, output_signature=signature)
    counted = pipeline.apply(tf.data.experimental.assert_cardinality(len(batches)))
    return counted.prefetch(PREFETCHED_BATCHES).with_options(options)
