"""What is known of the published set: a key for each image, which tells its place and its label."""

import hashlib

import numpy as np
import tiny_cifar

from cnnlab import data
from cnnlab.data.cifar10 import CIFAR10
from cnnlab.data.cifar10_copies import KEY_BYTES, keys


def test_a_key_is_the_beginning_of_a_hash_over_image_and_label():
    images, labels = tiny_cifar.ARRAYS["x_test"], tiny_cifar.ARRAYS["y_test"]
    own = keys(images)[np.arange(len(labels)), labels]
    digest = hashlib.sha256(images[3].tobytes() + bytes([labels[3]])).digest()
    assert int(own[3]) == int.from_bytes(digest[:KEY_BYTES], "little")
    np.testing.assert_array_equal(own, tiny_cifar.keys()[-len(labels) :])


def test_the_committed_keys_are_those_of_the_real_images_and_tell_them_apart():
    arrays, published = data.cifar10_arrays(progress=False), CIFAR10.keys()
    assert len(np.unique(published)) == 60_000
    for split, start in (("train", 0), ("test", 50_000)):
        rows = np.arange(0, len(arrays[f"x_{split}"]), 17)
        tried = keys(arrays[f"x_{split}"][rows])
        known = np.isin(tried, published)
        np.testing.assert_array_equal(known.sum(1), 1)
        np.testing.assert_array_equal(known.argmax(1), arrays[f"y_{split}"][rows])
        np.testing.assert_array_equal(tried[known], published[start + rows])
