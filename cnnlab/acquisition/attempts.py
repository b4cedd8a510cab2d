"""The first source that works fills the cache; where none does, one message says all that was tried."""

import warnings

from cnnlab.acquisition.downloads import DownloadError
from cnnlab.acquisition.errors import BadDataError, DataUnavailableError


def load_or_fill(store, title, sources, advice, space):
    """The arrays of `store` (an `ArrayCache`), which is filled first where it is empty or damaged.

    `title`: what the set is called in messages; `sources(scratch)`: a list of (name, function
    that fills `store` by `store.replacing(scratch)`, or raises BadDataError or DownloadError);
    `advice`: lines on what to do when all fail; `space`: disk space that filling takes.
    Raises DataUnavailableError with every source tried, what was wrong with it, and `advice`.
    """
    try:
        return store.load()
    except (OSError, BadDataError):
        pass  # looked at again, and said, by whoever holds the lock
    try:
        with store.locked() as scratch:
            return _load_or_fill(store, title, sources(scratch), advice)
    except OSError as error:
        raise DataUnavailableError(
            f"The cache folder {store.root} cannot be written ({error.strerror or error}). Name one that can, "
            f"with {space} free, in the environment variable CNNLAB_CACHE or the argument `cache`."
        ) from None


def _load_or_fill(store, title, sources, advice):
    attempts = []
    try:
        return store.load()  # another process may have filled it while this one waited
    except FileNotFoundError as error:
        attempts.append((f"the cache, {store.folder}", str(error)))
    except BadDataError as error:
        attempts.append((f"the cache, {store.folder}", str(error)))
        # Said of the line that called the loader, five calls up.
        warnings.warn(f"The cache {store.folder} is damaged and is built again: {error}.", stacklevel=5)
    for name, fill in sources:
        try:
            fill()
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
