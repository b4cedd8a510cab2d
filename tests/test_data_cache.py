"""The cache gives whole, verified arrays or says what is wrong; whatever happens, it is never half-written."""

import errno
import json
import multiprocessing
import os

import cache_workers
import numpy as np
import pytest
from tiny_cifar import ARRAYS, SPEC

from cnnlab.data import cache
from cnnlab.data.archives import BadDataError
from cnnlab.data.cache import ArrayCache


def new(root):
    return ArrayCache(root, "cifar10", SPEC.shapes, SPEC.sha256, progress=False)


def fill(store, content=ARRAYS):
    with store.locked() as scratch, store.replacing(scratch) as arrays:
        for name, array in content.items():
            arrays[name][:] = array


@pytest.fixture
def store(tmp_path):
    filled = new(tmp_path / "cache")
    fill(filled)
    return filled


def entries(store):
    return sorted(path.name for path in store.root.iterdir())


def test_what_is_put_in_comes_out_memory_mapped_and_read_only(store):
    for name, array in store.load().items():
        assert type(array) is np.memmap
        np.testing.assert_array_equal(array, ARRAYS[name])
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    assert entries(store) == ["cifar10", "cifar10.lock"]


def test_nothing_cached(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing there yet"):
        new(tmp_path / "none").load()
    assert not (tmp_path / "none").exists()


def test_unchanged_files_are_not_hashed_again(store, monkeypatch):
    monkeypatch.setattr(cache, "_sha256", lambda *_: pytest.fail("hashed"))
    store.load()


def flip_a_byte(file):
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    later = file.stat().st_mtime_ns + 10**9  # the clock of a file system ticks in milliseconds
    os.utime(file, ns=(later, later))


DAMAGE = {
    "x_train.npy is truncated": lambda folder: os.truncate(folder / "x_train.npy", 100_000),
    "y_test.npy is truncated": lambda folder: (folder / "y_test.npy").write_bytes(b""),
    "x_test.npy is missing": lambda folder: (folder / "x_test.npy").unlink(),
    "x_test.npy is float64": lambda folder: np.save(folder / "x_test.npy", ARRAYS["x_test"] / 255),
    "y_test.npy is truncated or not an array .*Python objects": lambda folder: np.save(
        folder / "y_test.npy", np.array([{}])
    ),
    "x_test.npy is uint8 .*expected uint8": lambda folder: np.save(folder / "x_test.npy", ARRAYS["x_test"][1:]),
    "bytes of y_train are not those of cifar10": lambda folder: flip_a_byte(folder / "y_train.npy"),
}


@pytest.mark.parametrize("reason", DAMAGE)
def test_damage_is_noticed_and_mended(store, reason):
    DAMAGE[reason](store.folder)
    with pytest.raises(BadDataError, match=reason):
        store.load()
    fill(store)
    np.testing.assert_array_equal(store.load()["y_train"], ARRAYS["y_train"])
    assert entries(store) == ["cifar10", "cifar10.lock"]


def test_a_byte_changed_behind_the_back_of_the_clock_needs_the_full_check(store):
    file = store.folder / "x_train.npy"
    times = file.stat()
    flip_a_byte(file)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    store.load()  # the documented limit
    (store.folder / "manifest.json").unlink()
    with pytest.raises(BadDataError, match="bytes of x_train"):
        store.load()


@pytest.mark.parametrize("manifest", [None, "", "{", "[]"])
def test_good_arrays_without_a_manifest_are_hashed_once(store, manifest, monkeypatch):
    file = store.folder / "manifest.json"
    written = json.loads(file.read_text())
    file.unlink() if manifest is None else file.write_text(manifest)
    store.load()
    assert json.loads(file.read_text()) == written
    monkeypatch.setattr(cache, "_sha256", lambda *_: pytest.fail("hashed"))
    store.load()


def snapshot(store):
    return {path.name: path.read_bytes() for path in sorted(store.folder.iterdir())}


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_fill_changes_nothing(store, failure):
    before = snapshot(store)
    with pytest.raises(failure), store.locked() as scratch, store.replacing(scratch) as arrays:
        arrays["x_train"][:50] = 1
        raise failure
    assert snapshot(store) == before
    assert entries(store) == ["cifar10", "cifar10.lock"]


def test_other_content_never_enters(store):
    before = snapshot(store)
    with pytest.raises(BadDataError, match="bytes of y_test are not those of cifar10"):
        fill(store, {**ARRAYS, "y_test": (ARRAYS["y_test"] + 1) % 10})
    assert snapshot(store) == before
    assert entries(store) == ["cifar10", "cifar10.lock"]


def test_a_full_disk_is_an_error_before_anything_is_replaced(store, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = snapshot(store)
    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(OSError, match="No space left"):
        fill(store)
    assert snapshot(store) == before
    assert entries(store) == ["cifar10", "cifar10.lock"]


def test_a_killed_process_leaves_no_lock_and_no_rubbish(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=cache_workers.hold_the_lock, args=(tmp_path, SPEC, ready))
    process.start()
    assert ready.wait(60)
    assert list(tmp_path.glob("cifar10.*.partial/half"))
    process.kill()
    process.join()
    fill(new(tmp_path))
    assert entries(new(tmp_path)) == ["cifar10", "cifar10.lock"]
    np.testing.assert_array_equal(new(tmp_path).load()["y_train"], ARRAYS["y_train"])
