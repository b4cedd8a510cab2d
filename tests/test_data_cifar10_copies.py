"""CIFAR-10 in whatever shape and order loads in the published one, which a key for each image tells, or is named."""

import hashlib

import cifar_shapes
import numpy as np
import pytest
import tiny_cifar
from tiny_cifar import ARRAYS, SPEC

from cnnlab import data
from cnnlab.data.cifar10 import CIFAR10
from cnnlab.data.cifar10_copies import KEY_BYTES, keys, read_into
from cnnlab.data.files import BadDataError, named_path


def read(path, spec=SPEC):
    arrays = {name: np.zeros(shape, "uint8") for name, shape in SPEC.shapes.items()}
    read_into(arrays, named_path(path), spec, progress=False)
    return arrays


@pytest.mark.parametrize("shape", cifar_shapes.GOOD)
def test_a_whole_copy_is_put_in_the_published_order(tmp_path, shape):
    path = cifar_shapes.GOOD[shape](tmp_path)
    for name, array in read(path).items():
        np.testing.assert_array_equal(array, ARRAYS[name])


DAMAGED = ["folder package", "tar.bz2", "flat zip", "npz", "h5", "mat", "pickled again, protocol 5", "one binary file"]


@pytest.mark.parametrize("shape", DAMAGED)
def test_a_damaged_copy_is_refused_or_holds_all_that_is_published(tmp_path, shape):
    path = cifar_shapes.GOOD[shape](tmp_path)
    files = sorted(file for file in ([path] if path.is_file() else path.rglob("*")) if file.stat().st_size)
    generator = np.random.default_rng(0)
    for _ in range(6):
        file = files[generator.integers(len(files))]
        whole = file.read_bytes()
        damaged = bytearray(whole)
        damaged[generator.integers(len(damaged))] ^= 1 << generator.integers(8)
        file.write_bytes(damaged[: generator.integers(1, len(damaged))] if generator.random() < 0.3 else damaged)
        try:
            found = read(path)
        except BadDataError:
            found = {}
        for name, array in found.items():
            np.testing.assert_array_equal(array, ARRAYS[name])
        file.write_bytes(whole)


@pytest.mark.parametrize("shape", cifar_shapes.BAD)
def test_what_is_no_whole_copy_is_named(tmp_path, shape):
    write, said = cifar_shapes.BAD[shape]
    with pytest.raises(BadDataError, match=said):
        read(write(tmp_path))


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
