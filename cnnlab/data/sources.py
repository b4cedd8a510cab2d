"""A cache filled from the first source that works, or from the one copy that somebody names; or all that was tried."""

import warnings
from pathlib import Path
from typing import NamedTuple

from cnnlab.data.download import DownloadError
from cnnlab.data.files import BadDataError, named_path, stamp


class DataUnavailableError(RuntimeError):
    """No source gave the data; the message says what was tried and what to do."""

    def _render_traceback_(self):
        """What IPython shows in place of a traceback: the message, which is all that a reader can act on."""
        return [str(self)]


class Named(NamedTuple):
    """A copy that somebody named: its Path, and the `files.stamp` of it."""

    path: Path
    stamp: str


def named_copy(path, title, advice):
    """The `Named` copy at `path` (None where nothing is named); DataUnavailableError where there is none."""
    if not path:
        return None
    try:
        found = named_path(path)
        return Named(found, stamp(found))
    except BadDataError as error:
        raise DataUnavailableError(
            _message(title, [(f"the path that you named, {path}", str(error))], advice)
        ) from None


def load_or_fill(store, title, sources, advice, space, named=None):
    """The arrays of `store` (an ArrayCache), which is filled by the first source that works where it is no good.

    `title`: what the set is called in messages; `sources(scratch)`: a list of (name, function
    that fills writable arrays, or raises BadDataError or DownloadError); `advice`: lines on what
    to do when all fail; `space`: disk space that filling takes; `named`: the `Named` copy that
    is the only source, which is verified however good the cache is, unless that was done before.
    Raises DataUnavailableError with every source tried, what was wrong with it, and `advice`.
    """
    try:
        arrays = store.load()
    except (OSError, BadDataError):
        pass  # looked at again, and said, by whoever holds the lock
    else:
        if named and not store.vouches_for(named):
            ((name, read),) = sources(None)
            try:
                store.check(read)
            except BadDataError as error:
                raise DataUnavailableError(_message(title, [(name, str(error))], advice)) from None
            store.vouch_for(named)
        return arrays
    try:
        with store.locked() as scratch:
            arrays = _load_or_fill(store, title, sources(scratch), scratch, advice, named)
    except OSError as error:
        raise DataUnavailableError(
            f"The cache folder {store.root} cannot be written ({error.strerror or error}). Name one that can, "
            f"with {space} free, in the environment variable CNNLAB_CACHE or the argument `cache`."
        ) from None
    if named:
        store.vouch_for(named)
    return arrays


def _load_or_fill(store, title, sources, scratch, advice, named):
    attempts = []
    try:
        arrays = store.load()  # another process may have filled it while this one waited
        if not named or store.vouches_for(named):
            return arrays
    except (FileNotFoundError, BadDataError) as error:
        attempts.append((f"the cache, {store.folder}", str(error)))
        if isinstance(error, BadDataError):  # Said of the line that called the loader, five calls up.
            warnings.warn(f"The cache {store.folder} is damaged and is built again: {error}.", stacklevel=5)
    for name, read in sources:
        try:
            with store.replacing(scratch) as arrays:
                read(arrays)
        except (BadDataError, DownloadError) as error:
            attempts.append((name, str(error)))
        else:
            return store.load()
    raise DataUnavailableError(_message(title, attempts, advice))


def _message(title, attempts, advice):
    lines = [f"{title} could not be loaded. Tried, in this order:"]
    for number, (source, reason) in enumerate(attempts, start=1):
        lines += [f"  {number}. {source}:", *(f"       {line}" for line in reason.splitlines())]
    return "\n".join([*lines, "What you can do:", *advice])
