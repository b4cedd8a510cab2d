"""The Mars images from the first source that works, as arrays: verified, decoded, made RGB, resized, centred.

In this order: the cache; a path that the user names, which is the only source and is verified even if the cache is
good; an earlier download; the DOI's record. JPEG's own scaled decoding would save a second or two of the four that the
whole set takes, but give pixels that no other reader of the same file gives.
"""

import hashlib
import math
import os
import warnings

import numpy as np
import PIL
from PIL import Image

from cnnlab.data.cache import ArrayCache
from cnnlab.data.download import DataUnavailableError, fetch, load_or_fill
from cnnlab.data.files import BadDataError
from cnnlab.data.mars_files import FOLDER, LIMITS, MSL, ZIP_NAME, counted, opened_copy, read_listing
from cnnlab.data.pictures import in_threads, letterboxed, opened_picture
from cnnlab.machine import cache_folder

MARS_PATH_VARIABLE = "CNNLAB_MARS"
# Raise this with every change to what `preprocessing_steps` makes of a file, so that cached images are made again.
DECODING = 1
# Far more than any picture of the set has.
LARGEST_SIDE = 2_048


def mars_arrays(path=None, cache=None, size=128, letterbox=True, progress=True, spec=MSL):
    """The MSL surface images (DOI 10.5281/zenodo.1049137) from the first source that works.

    `path`, `cache`, `size`, `letterbox`, `progress`: as in `dataset.load_mars`; `spec`: what the set must be. The cache
    takes 82 MB for 64 pixels, 1 GB for 224, and 62 MB for the zip if it is downloaded.
    Returns read-only memory-mapped {"images": uint8 (n, size, size, 3), "listing": the bytes of
    a `mars_files.Listing`}. Raises DataUnavailableError as `cifar10_arrays` does.
    """
    path = path or os.environ.get(MARS_PATH_VARIABLE)
    shapes = {"images": (spec.total, size, size, 3), "listing": (spec.listing_bytes,)}
    origin = {"listing": spec.listing_sha256, "files": spec.files_sha256}
    origin |= {"decoding": DECODING, "pillow": PIL.__version__}
    name = f"mars-{size}-{'letterbox' if letterbox else 'stretch'}"
    store = ArrayCache(cache_folder(cache), name, shapes, origin=origin, progress=progress)
    kept = store.root / ZIP_NAME

    def read(arrays, place):
        with opened_copy(place) as copy:
            read_into(arrays, copy, spec, letterbox, progress)

    def download(arrays, scratch):
        archive = fetch(spec.url, scratch, None, LIMITS.total, progress)
        read(arrays, archive)
        archive.replace(kept)  # for other sizes, and for the original pictures

    def sources(scratch):
        before = [(f"the earlier download, {kept}", lambda arrays: read(arrays, kept))] if kept.exists() else []
        return [*before, (f"the DOI's record, {spec.url}", lambda arrays: download(arrays, scratch))]

    # With room for a downloaded zip.
    megabytes = round((sum(map(math.prod, shapes.values())) + LIMITS.total) / 1e6)
    return load_or_fill(store, "The Mars images", sources, _advice(path, spec), f"{megabytes} MB", path, read)


def mars_original(file, path=None, cache=None):
    """The bytes of the JPEG file `file` (a name in the listing, without folder) as published.

    `path` and `cache`: as in `mars_arrays`. Raises DataUnavailableError if no copy is at hand: the
    cache of decoded images does not hold it.
    """
    place = path or os.environ.get(MARS_PATH_VARIABLE) or cache_folder(cache) / ZIP_NAME
    try:
        with opened_copy(place) as copy:
            return copy.read(f"{FOLDER}/{file}")
    except BadDataError as error:
        advice = "\n".join(_advice(None, MSL))
        raise DataUnavailableError(f"No original of {file} at {place}: {error}. What you can do:\n{advice}") from None


def preprocessing_steps(data, size, letterbox=True):
    """Turn the JPEG file `data` (bytes) into an input, step by step: {step: uint8 array}.

    "original" (height, width) or (height, width, 3); "rgb", greyscale repeated in three channels; "resized", bicubic
    with antialiasing (Pillow): to `size` x `size` pixels, or with `letterbox` to the largest picture of the same aspect
    ratio that fits in it; "input" (size, size, 3), that picture centred on black.
    Raises BadDataError unless `data` is a valid JPEG of a reasonable size.
    """
    with opened_picture(data, "JPEG") as original:
        if max(original.size) > LARGEST_SIDE:
            raise BadDataError(f"is {original.width} x {original.height} pixels, far more than any picture of the set")
        original.load()
    rgb = original.convert("RGB")
    if letterbox:
        resized, centred = letterboxed(rgb, size)
    else:
        resized = centred = rgb.resize((size, size), Image.Resampling.BICUBIC)
    steps = {"original": original, "rgb": rgb, "resized": resized, "input": centred}
    return {name: np.asarray(image) for name, image in steps.items()}


def read_into(arrays, copy, spec, letterbox=True, progress=True):
    """Fill `arrays`: images uint8 (n, size, size, 3), listing uint8, the bytes of `Listing.to_bytes`.

    `copy`: an `archives.Copy`. Warns of what does no harm; raises BadDataError, with a line for
    each problem, if classes, splits or pictures are not those of `spec`.
    """
    listing, repeated = read_listing(copy, spec)
    if repeated:
        warnings.warn(counted("repeated lines, counted once", repeated), stacklevel=2)
    content = listing.to_bytes()
    arrays["listing"][:] = np.frombuffer(content, "uint8")
    found = _decode_into(arrays["images"], list(listing.rows["file"]), copy.read, letterbox, progress)
    if found != spec.files_sha256:
        raise BadDataError(
            f"the names are those published, but not all pictures are: they were changed or swapped "
            f"(SHA-256 {found[:12]}..., expected {spec.files_sha256[:12]}...)"
        )


def _decode_into(images, files, read, letterbox, progress):
    """Decode `files`, file names without folder, into `images` uint8 (n, size, size, 3); returns their `files_hash`.

    `read`: of an `archives.Copy`. Raises BadDataError that counts the missing or unreadable files and names some.
    """
    size, failures = images.shape[1], {}

    def one(row):
        try:
            data = read(f"{FOLDER}/{files[row]}")
            images[row] = preprocessing_steps(data, size, letterbox)["input"]
        except BadDataError as error:
            failures[row] = f"{files[row]} {error}"
            return None
        return hashlib.sha256(data).hexdigest()

    digests = in_threads(one, len(files), f"Mars images to {size}x{size}", "image", progress)
    if failures:
        raise BadDataError(counted("images that cannot be read", [failures[row] for row in sorted(failures)]))
    return files_hash(files, digests)


def files_hash(files, digests):
    """SHA-256 over the names of `files` and the SHA-256 `digests` (hex) of their bytes, in order."""
    lines = (f"{file}\t{digest}\n" for file, digest in zip(files, digests, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _advice(path, spec):
    advice = [
        f"  - on a machine with internet access, download {ZIP_NAME} (62 MB) from {spec.doi},",
        "    copy it to this machine and name it, or the folder that it unpacks to: load_mars(path='...'),",
        f"    or the environment variable {MARS_PATH_VARIABLE} (in a notebook, %env before loading);",
    ]
    if path:
        return [*advice, f"  - or name none (unset {MARS_PATH_VARIABLE}) to have it downloaded."]
    return [*advice, "  - or fix what is reported above, and run this again."]
