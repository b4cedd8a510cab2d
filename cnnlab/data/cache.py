"""Verified arrays on disk, memory-mapped, written whole or not at all.

A set is a folder `<cache>/<name>/` of `<array>.npy` files and a `manifest.json` with the SHA-256, size and modification
time of each. A load hashes them again only if a size or time has changed, or the manifest is missing: a disk that
alters bytes without changing the time goes unnoticed until manifest.json is deleted. `verified.json` records which
copies that the user named were read and found to hold these arrays.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from cnnlab.data.files import BadDataError, reading, refusing
from cnnlab.machine import atomic_file, byte_bar

_CHUNK = 1 << 24
# How many verified copies a cache remembers.
_REMEMBERED = 50


class ArrayCache:
    """The uint8 arrays of one data set under `root`: `shapes` and `sha256` say, by name, what they must be.

    `sha256` None: the hashes cannot be known beforehand, because a library computes the arrays. The manifest then
    records the hashes of what the cache was filled with, and `origin`: a flat dict, for JSON, of what determines the
    arrays (content of the source, version of the decoder). If the manifest is missing or has another origin, the
    arrays must be made again. Whoever fills the cache verifies the source.
    """

    def __init__(self, root, name, shapes, sha256=None, origin=None, progress=True):
        # The finished arrays are in `folder`.
        self.root, self.name, self.folder = Path(root), name, Path(root) / name
        self.shapes, self.sha256, self.origin, self.progress = shapes, sha256, origin, progress

    def load(self):
        """Array name to read-only `np.memmap`; writes nothing but a manifest.

        Raises FileNotFoundError where nothing is cached, BadDataError where it is damaged, or made by other code.
        """
        if not self.folder.exists():
            raise FileNotFoundError("nothing there yet")
        manifest = self.folder / "manifest.json"
        written = _read_json(manifest)
        sha256 = self.sha256 or self._recorded(written)
        arrays = {name: self._map(name) for name in self.shapes}
        current = self._manifest(self.folder, sha256)
        if written != current:
            self._checked_hashes(arrays, sha256)
            # A shared, read-only cache works too; it is hashed at every load.
            with contextlib.suppress(OSError):
                _write_json(manifest, current)
        return arrays

    @contextlib.contextmanager
    def locked(self):
        """Hold the lock for filling this cache, waiting for another holder; yields an empty scratch folder.

        The lock is the operating system's: it ends with its process, however that ends. What killed processes left
        behind is removed. Raises OSError where the cache cannot be written.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.root / f"{self.name}.lock")
        try:
            held = lock.acquire(timeout=0)
        except Timeout:
            print(f"Waiting for another process that is filling {self.folder} ...", flush=True)
            held = lock.acquire()
        with held:
            for abandoned in self.root.glob(f"{self.name}.*.partial"):
                shutil.rmtree(abandoned, ignore_errors=True)
            with tempfile.TemporaryDirectory(
                prefix=f"{self.name}.", suffix=".partial", dir=self.root, ignore_cleanup_errors=True
            ) as scratch:
                yield Path(scratch)

    @contextlib.contextmanager
    def replacing(self, scratch):
        """Yield writable arrays to fill; they become the cache if the block succeeds and the hashes match.

        `scratch`: from `locked`. Raises BadDataError for other content; after any exception the cache is as it was.
        """
        with tempfile.TemporaryDirectory(dir=scratch, ignore_cleanup_errors=True) as temporary:
            fresh = Path(temporary) / self.name
            fresh.mkdir()
            arrays = {name: _new_array(fresh / f"{name}.npy", shape) for name, shape in self.shapes.items()}
            yield arrays
            sha256 = self._checked_hashes(arrays, self.sha256)
            for name, array in arrays.items():
                array.flush()
                _sync(fresh / f"{name}.npy")
            _write_json(fresh / "manifest.json", self._manifest(fresh, sha256))
            _sync(fresh)
            if os.path.lexists(self.folder):
                self.folder.rename(Path(temporary) / "replaced")
            fresh.rename(self.folder)
            _sync(self.root)

    def check(self, read):
        """Raise BadDataError unless `read(arrays)` fills writable arrays with what is cached; nothing is written."""
        arrays = {name: np.zeros(shape, "uint8") for name, shape in self.shapes.items()}
        read(arrays)
        self._checked_hashes(arrays, self.sha256 or self._recorded(_read_json(self.folder / "manifest.json")))

    def vouches_for(self, named):
        """Whether the copy at `named`, a `download.Named`, was verified and has not changed since."""
        return (_read_json(self.folder / "verified.json") or {}).get(str(named.path)) == named.stamp

    def vouch_for(self, named):
        """Remember that the copy at `named` holds what is cached, if the cache can be written."""
        verified = _read_json(self.folder / "verified.json") or {}
        verified.pop(str(named.path), None)
        kept = dict(list(verified.items())[1 - _REMEMBERED :])
        with contextlib.suppress(OSError):
            _write_json(self.folder / "verified.json", {**kept, str(named.path): named.stamp})

    def _map(self, name):
        file = self.folder / f"{name}.npy"
        with refusing(f"{file.name} is truncated or not an array"), reading(f"{file.name} cannot be read"):
            try:
                array = np.load(file, mmap_mode="r", allow_pickle=False)
            except FileNotFoundError:
                raise BadDataError(f"{file.name} is missing") from None
        if array.dtype != np.uint8 or array.shape != self.shapes[name]:
            raise BadDataError(f"{file.name} is {array.dtype} {array.shape}, expected uint8 {self.shapes[name]}")
        return array

    def _recorded(self, manifest):
        """Array name to hash, from `manifest`: the content of a manifest.json, None where it is damaged."""
        try:
            origin, recorded = manifest["origin"], {name: manifest[name]["sha256"] for name in self.shapes}
        except (KeyError, TypeError):
            raise BadDataError("its manifest.json is missing or damaged") from None
        if origin != self.origin:
            raise BadDataError("it was made from other files, or by another version of the code")
        return recorded

    def _manifest(self, folder, sha256):
        """The content of manifest.json for good arrays in `folder` as they are now."""
        stats = {name: (folder / f"{name}.npy").stat() for name in self.shapes}
        entries = {
            name: {"sha256": sha256[name], "bytes": stat.st_size, "modified_ns": stat.st_mtime_ns}
            for name, stat in stats.items()
        }
        return entries if self.origin is None else {**entries, "origin": self.origin}

    def _checked_hashes(self, arrays, expected):
        """Array name to SHA-256; raises BadDataError if one differs from `expected` (likewise; None: not known)."""
        total = sum(array.nbytes for array in arrays.values())
        with byte_bar(total, f"checking {self.name}", disable=not self.progress) as bar:
            found = {name: _sha256(array, bar) for name, array in arrays.items()}
        for name, digest in found.items():
            if expected and digest != expected[name]:
                raise BadDataError(
                    f"the bytes of {name} are not those of {self.name}: damaged, changed or in another order "
                    f"(SHA-256 {digest[:12]}..., expected {expected[name][:12]}...)"
                )
        return found


def check_cached(folder):
    """Raise BadDataError unless the `folder` of a cache holds the arrays that its manifest.json describes.

    Nothing is written. Whether they are those of a data set is checked when it is loaded.
    """
    manifest = _read_json(folder / "manifest.json")
    entries = {name: entry for name, entry in (manifest or {}).items() if name != "origin"}
    if not entries:
        raise BadDataError("its manifest.json is missing or damaged")
    for name, entry in entries.items():
        with refusing(f"{name}.npy is missing or damaged"):
            array = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            good = hashlib.sha256(array).hexdigest() == entry["sha256"]
        if not good:
            raise BadDataError(f"the bytes of {name}.npy do not match its manifest.json")


def _new_array(file, shape):
    array = np.lib.format.open_memmap(file, "w+", "uint8", shape)
    if hasattr(os, "posix_fallocate"):
        # A full disk raises OSError here; met later, in writing to the map, it would kill the process.
        with file.open("r+b") as handle:
            os.posix_fallocate(handle.fileno(), 0, file.stat().st_size)
    return array


def _sha256(array, bar):
    digest = hashlib.sha256()
    content = memoryview(array).cast("B")
    for start in range(0, len(content), _CHUNK):
        chunk = content[start : start + _CHUNK]
        digest.update(chunk)
        bar.update(len(chunk))
    return digest.hexdigest()


def _read_json(path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _write_json(path, content):
    with atomic_file(path) as partial:
        partial.write_text(json.dumps(content, indent=1), encoding="utf-8")
        _sync(partial)


def _sync(path):
    """Flush a file, or a folder's list of entries, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
