"""JPEG pictures of many sizes to uint8 arrays of one: decoded whole, made RGB, resized, centred.

JPEG's own scaled decoding is not used: it would save a second or two of the four that the whole
set takes, and give pixels that no other reader of the same file gives.
"""

import hashlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import PIL
from PIL import Image

from cnnlab.acquisition import pictures
from cnnlab.acquisition.errors import BadDataError
from cnnlab.acquisition.mars_spec import FOLDER, LARGEST_SIDE
from cnnlab.acquisition.problems import found, refuse
from cnnlab.machine import code_version, progress_bar, usable_cores


def preprocessing_steps(data, size, letterbox=True):
    """What becomes of the JPEG file `data` (bytes), step by step, as {step: uint8 array}.

    "original" (height, width) or (height, width, 3); "rgb", greyscale repeated in three
    channels; "resized", bicubic with antialiasing (Pillow): to `size` x `size` pixels, or with
    `letterbox` to the largest picture of the same aspect ratio that fits in it; "input"
    (size, size, 3), that picture centred on black.
    Raises BadDataError for what is no whole JPEG of a reasonable size.
    """
    original = _opened(data)
    rgb = original.convert("RGB")
    resized = rgb.resize(_fitted(rgb.size, size) if letterbox else (size, size), Image.Resampling.BICUBIC)
    steps = {"original": original, "rgb": rgb, "resized": resized, "input": _centred(resized, size)}
    return {name: np.asarray(image) for name, image in steps.items()}


def decode(data, size, letterbox=True):
    """The network's input from the JPEG file `data`: uint8 (size, size, 3), as `preprocessing_steps`."""
    return preprocessing_steps(data, size, letterbox)["input"]


def decode_all(images, files, read, letterbox=True, progress=True):
    """Decode `files`, file names without folder, into `images` uint8 (n, size, size, 3), in threads.

    `read`: of a `mars_copy.Copy`. Returns `files_hash`. Raises BadDataError that names every
    file that is missing or unreadable.
    """

    def one(row):
        try:
            data = read(f"{FOLDER}/{files[row]}")
            images[row] = decode(data, images.shape[1], letterbox)
        except BadDataError as error:
            return None, f"{files[row]} {error}"
        return hashlib.sha256(data).hexdigest(), None

    size = "x".join(map(str, images.shape[1:3]))
    with (
        ThreadPoolExecutor(usable_cores()) as pool,
        progress_bar(len(files), f"Mars images to {size}", "image", disable=not progress) as bar,
    ):
        digests, failures = [], []
        for digest, failure in pool.map(one, range(len(files))):
            digests.append(digest)
            failures += [failure] if failure else []
            bar.update()
    refuse(found("images that cannot be read", failures))
    return files_hash(files, digests)


def files_hash(files, digests):
    """SHA-256 over the names of `files` and the SHA-256 `digests` (hex) of their bytes, in order."""
    lines = (f"{file}\t{digest}\n" for file, digest in zip(files, digests, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def decoding_version():
    """What the pixels depend on beside the files: this code and the JPEG library, as text."""
    return f"{code_version('cnnlab.acquisition.mars_images')} pillow {PIL.__version__}"


def _opened(data):
    with pictures.opened(data, "JPEG") as image:
        if max(image.size) > LARGEST_SIDE:
            raise BadDataError(f"is {image.width} x {image.height} pixels, far more than any picture of the set")
        image.load()
        return image


def _fitted(original, size):
    """(width, height) of the largest picture with the shape of `original` in `size` x `size` pixels."""
    longest = max(original)
    return tuple(max(1, round(side * size / longest)) for side in original)


def _centred(image, size):
    canvas = Image.new("RGB", (size, size))
    canvas.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
    return canvas
