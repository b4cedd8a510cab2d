"""Pictures that do not look alike, in one folder per class."""

import io

import numpy as np
from PIL import Image

CLASSES = ("cat", "dog", "owl")


def photo(number, size=(48, 36)):
    """A Pillow picture of `size` (width, height): smooth blotches unique to `number`, of class `number` % 3.

    Cats are reddish, dogs greenish, owls bluish.
    """
    blotches = np.random.default_rng(number).integers(0, 160, (6, 6, 3), "uint8")
    blotches[..., number % 3] += 90
    return Image.fromarray(blotches).resize(size, Image.Resampling.BICUBIC)


def encoded(picture, form="PNG", **options):
    """A Pillow picture as the bytes of a file."""
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def write(folder, count=8, start=0):
    """Write `count` pictures of each class to `folder`/CLASS, numbered from `start`; return `folder`."""
    for number in range(3 * start, 3 * (start + count)):
        path = folder / CLASSES[number % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(photo(number)))
    return folder
