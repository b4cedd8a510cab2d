"""CIFAR-10 in every shape on disk is read alike; a broken or hostile file is refused with its reason."""

import json
import pickle
import shutil
import struct
import tarfile
import zlib

import numpy as np
import pytest
import tiny_cifar
from tiny_cifar import ARRAYS, COUNT, SPEC

from cnnlab.data import cifar10_files
from cnnlab.data.archives import BadDataError


def read(path):
    arrays = {name: np.zeros(shape, "uint8") for name, shape in SPEC.shapes.items()}
    place, *_ = cifar10_files.places_at(path)
    cifar10_files.read_into(arrays, place, SPEC, progress=False)
    return arrays


def assert_whole(arrays):
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)


@pytest.mark.parametrize("name", tiny_cifar.LAYOUTS)
def test_folder(tmp_path, name):
    folder = tiny_cifar.write_folder(tmp_path, name)
    assert_whole(read(folder))
    assert_whole(read(tmp_path))  # the folder that holds it


@pytest.mark.parametrize("name", tiny_cifar.ARCHIVES)
def test_archive(tmp_path, name):
    archive = tiny_cifar.write_archive(tmp_path, name)
    shutil.rmtree(tmp_path / "to_pack")
    assert_whole(read(archive))
    assert_whole(read(tmp_path))
    assert_whole(read(archive.rename(tmp_path / "renamed (1).gz")))


def test_archive_that_a_browser_has_unzipped(tmp_path):
    folder = tiny_cifar.write_folder(tmp_path, "cifar-10-batches-py")
    assert_whole(read(tiny_cifar.pack(folder, tmp_path / "cifar-10-python.tar", mode="w")))


def test_pickles_are_read_as_pickle_reads_them():
    pixels = ARRAYS["x_test"].reshape(COUNT, 3072)
    labels = ARRAYS["y_test"].tolist()
    python2 = tiny_cifar.python2_pickle(pixels.tobytes(), labels)
    loaded = pickle.loads(python2, encoding="bytes")
    python3 = pickle.dumps({"data": pixels, "labels": labels})
    for data in (python2, python3):
        found_pixels, found_labels = cifar10_files.read_batch(data, COUNT)
        np.testing.assert_array_equal(found_pixels, loaded[b"data"])
        assert found_labels == loaded[b"labels"]
    fortran = pickle.dumps({"data": np.asfortranarray(pixels), "labels": labels})
    np.testing.assert_array_equal(cifar10_files.read_batch(fortran, COUNT)[0], pixels)


class Hostile:
    """Unpickled, it creates the file named."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return open, (str(self.file), "w")


def test_a_pickle_that_runs_code_does_not(tmp_path):
    proof = tmp_path / "proof"
    data = pickle.dumps({b"data": Hostile(proof), b"labels": []})
    pickle.loads(data)
    assert proof.exists()  # the trap is live
    proof.unlink()
    folder = tiny_cifar.write_folder(tmp_path, "cifar-10-batches-py")
    (folder / "data_batch_4").write_bytes(data)
    with pytest.raises(BadDataError, match="data_batch_4 is a pickle that asks to run .*open.*refused"):
        read(folder)
    assert not proof.exists()


GOOD_PIXELS = np.zeros((COUNT, 3072), "uint8")
BAD_PICKLES = {
    "is no whole pickle": tiny_cifar.python2_pickle(GOOD_PIXELS.tobytes(), [0] * COUNT)[:-900],
    "holds a list": pickle.dumps([1, 2]),
    "has no array of pixels": pickle.dumps({"data": b"abc", "labels": [0] * COUNT}),
    "has no list of labels": pickle.dumps({"data": GOOD_PIXELS}),
    "pixels of type .*float64|pixels of type .*f8": pickle.dumps({"data": GOOD_PIXELS * 1.0, "labels": [0] * COUNT}),
    r"shape \(19, 3072\)": pickle.dumps({"data": GOOD_PIXELS[1:], "labels": [0] * COUNT}),
    "has 3 bytes of pixels": tiny_cifar.python2_pickle(b"abc", [0] * COUNT),
    "numpy.fromfile.*refused": b"cnumpy\nfromfile\n(S'batch'\ntR.",
}


@pytest.mark.parametrize("reason", BAD_PICKLES)
def test_bad_pickles(reason):
    with pytest.raises(BadDataError, match=reason):
        cifar10_files.read_batch(BAD_PICKLES[reason], COUNT)


def png_header(width, height):
    """The first bytes of a PNG that claims a size, without its pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = b"IDAT" + zlib.compress(b"")
    chunks = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, pixels))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


PICTURE = ARRAYS["x_test"].reshape(COUNT, 1024, 3)
BAD_FILES = {
    "data_batch_2.png is 1024 x 19 RGB, expected 1024 x 20 RGB": ("data_batch_2.png", tiny_cifar.png(PICTURE[1:])),
    "test_batch.png is 1024 x 20 L, expected": ("test_batch.png", tiny_cifar.png(PICTURE, "L")),
    "test_batch.png is 1024 x 20000 RGB, expected": ("test_batch.png", png_header(1024, 20_000)),
    "test_batch.png is no whole PNG .*(pixels|bomb)": ("test_batch.png", png_header(1_000_000, 1_000_000)),
    "test_batch.png is no whole PNG picture": ("test_batch.png", tiny_cifar.png(PICTURE)[:-3000]),
    "data_batch_5.png is no PNG picture": ("data_batch_5.png", b"<html>Sign in</html>"),
    "test_lables.json has 19 labels, expected 20": ("test_lables.json", json.dumps([0] * 19).encode()),
    "test_lables.json has a label 10, expected": ("test_lables.json", json.dumps([0] * 19 + [10]).encode()),
    "test_lables.json has a label True": ("test_lables.json", json.dumps([True] * 20).encode()),
    "test_lables.json has a label 'cat'": ("test_lables.json", json.dumps(["cat"] * 20).encode()),
    "train_lables.json holds a JSON dict": ("train_lables.json", b"{}"),
    "train_lables.json is no JSON": ("train_lables.json", b"[1, 2"),
    "train_lables.json is no JSON .*recursion": ("train_lables.json", b"[" * 50_000),
    "data_batch_1.bin has 61,459 bytes, expected 61,460": ("data_batch_1.bin", bytes(61_459)),
    "data_batch_1.bin has a label 255": ("data_batch_1.bin", bytes([255]) * 61_460),
    "holds test_batch.bin of 200,000 bytes, more than": ("test_batch.bin", bytes(200_000)),
    "it lacks data_batch_2.bin": ("data_batch_2.bin", None),
}


@pytest.mark.parametrize("reason", BAD_FILES)
def test_bad_files(tmp_path, reason):
    name, content = BAD_FILES[reason]
    folder = tiny_cifar.write_folder(tmp_path, "cifar-10-batches-bin" if name.endswith(".bin") else "package")
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    with pytest.raises(BadDataError, match=reason):
        read(folder)


def member(name, content=b""):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    return info, content


def test_two_layouts_in_one_archive_are_refused(tmp_path):
    labels = member("package/test_lables.json", json.dumps([0] * COUNT).encode())
    archive = tiny_cifar.pack(tiny_cifar.write_folder(tmp_path, "cifar-10-batches-bin"), tmp_path / "x.tar.gz", labels)
    with pytest.raises(BadDataError, match="mixes the layouts binary and npm"):
        read(archive)


def test_places_without_the_data(tmp_path):
    with pytest.raises(BadDataError, match="there is no such file or folder"):
        read(tmp_path / "nowhere")
    with pytest.raises(BadDataError, match="this folder holds no CIFAR-10"):
        read(tmp_path)
    note = tmp_path / "data_batch_1"
    note.write_text("a note " * 1000)
    with pytest.raises(BadDataError, match="no .tar.gz archive"):
        read(note)
    note.unlink()
    other = tiny_cifar.pack(tmp_path, tmp_path / "holiday.tar.gz", member("holiday/beach.jpg", b"x"))
    with pytest.raises(BadDataError, match="holds no batch of CIFAR-10"):
        read(other)
