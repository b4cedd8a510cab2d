"""A file's images and labels are given on as they are; a broken or hostile file is refused with its reason."""

import io
import json
import pickle
import struct
import zlib

import h5py
import numpy as np
import pytest
import tiny_cifar
from scipy import io as scipy_io
from tiny_cifar import ARRAYS, COUNT, SPEC

from cnnlab.data.archives import Member
from cnnlab.data.cifar10_formats import as_bytes, as_labels, decode, label_in, views
from cnnlab.data.files import BadDataError, kind_of


class Sink:
    """Keeps what a reader gives."""

    limits = SPEC.limits

    def __init__(self):
        self.given = []

    def __getattr__(self, name):
        return lambda *arguments: self.given.append((name, *arguments))


def given(name, content):
    sink = Sink()
    decode(Member(name, kind_of(content[:520]), len(content), lambda: content), sink)
    return sink.given


def png_header(width, height):
    """The first bytes of a PNG that claims a size, without its pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = b"IDAT" + zlib.compress(b"")
    chunks = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, pixels))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def hdf5(fill):
    file = io.BytesIO()
    with h5py.File(file, "w") as content:
        fill(content)
    return file.getvalue()


def matlab(content):
    file = io.BytesIO()
    scipy_io.savemat(file, content, do_compression=True)
    return file.getvalue()


PICTURE = ARRAYS["x_test"].reshape(COUNT, 1024, 3)
NPY = io.BytesIO()
np.save(NPY, np.array([{}]), allow_pickle=True)
HUGE = (SPEC.limits.file + 1,)
BAD = {
    "is 20000 x 20000 pixels, more than any|not a valid PNG": ("x.png", png_header(20_000, 20_000)),
    "is not a valid PNG .*(pixels|bomb)": ("x.png", png_header(1_000_000, 1_000_000)),
    "is not a valid PNG picture": ("x.png", tiny_cifar.png(PICTURE)[:-3000]),
    "is not valid JSON": ("test_lables.json", b"[1, 2"),
    "is not valid JSON .*recursion": ("test_lables.json", b"[" * 50_000),
    "has 61,459 bytes, expected 3,073 for each image": ("data_batch_1.bin", bytes(61_459)),
    "has a label 255": ("data_batch_1.bin", bytes([255]) * 61_460),
    "asks to run": ("batch", pickle.dumps({"data": np.save, "labels": []})),
    "truncated or not an array .*Python objects|Object arrays": ("x.npy", NPY.getvalue()),
    "truncated or not an array": ("x.npy", NPY.getvalue()[:100]),
    "is not a valid HDF5": ("x.h5", hdf5(lambda file: file.create_dataset("x", data=ARRAYS["x_test"]))[:-9_000]),
    "holds x of [0-9,]+ bytes, more than any": ("x.h5", hdf5(lambda file: file.create_dataset("x", HUGE, "u1"))),
    "is not a valid Matlab": ("x.mat", matlab({"data": PICTURE})[:-900]),
    "holds data of [0-9,]+ bytes, more than any": ("x.mat", matlab({"data": np.zeros(HUGE, "uint8")})),
    "is not a valid Parquet|needs pyarrow": ("x.parquet", b"PAR1" + bytes(50)),
}


@pytest.mark.parametrize("reason", BAD)
def test_bad_files(reason):
    with pytest.raises(BadDataError, match=reason):
        given(*BAD[reason])


def test_a_data_set_that_lies_in_another_file_is_not_read(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(range(200)))

    def link(file):
        file.create_dataset("x", (200,), "u1", external=[(str(tmp_path / "secret"), 0, 200)])
        file["link"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "x")

    assert given("x.h5", hdf5(link)) == [("arrays", [])]


IMAGES = ARRAYS["x_test"][:4]
PLANES = IMAGES.transpose(0, 3, 1, 2)
WRITTEN = {
    "channels last": IMAGES,
    "channels first": PLANES,
    "rows of planes": PLANES.reshape(4, 3072),
    "columns of planes": PLANES.reshape(4, 3072).T,
    "rows of pixels": IMAGES.reshape(4, 1024, 3),
    "images last": np.moveaxis(IMAGES, 0, -1),
    "channels first, images last": np.moveaxis(PLANES, 0, -1),
}


@pytest.mark.parametrize("way", WRITTEN)
def test_every_shape_of_images_is_seen_in_the_way_that_was_meant(way):
    assert any(np.array_equal(seen, IMAGES) for seen in views(WRITTEN[way]))


@pytest.mark.parametrize("shape", [(4,), (4, 32, 32), (4, 28, 28, 3), (4, 64, 64, 3), (0, 3072), (2, 1536)])
def test_other_shapes_are_no_images(shape):
    assert views(np.zeros(shape, "uint8")) == []


LABELS = [
    ([3, 0, 9], [3, 0, 9]),
    (np.array([[3], [0]]), [3, 0]),
    (np.array([[3, 0]], "uint8"), [3, 0]),
    (np.array([3.0, 0.0]), [3, 0]),
    (np.eye(10)[[3, 0]], [3, 0]),
    (["cat", " Airplane"], [3, 0]),
    ([b"cat", b"zebra"], [3, -1]),
    (["3", "0"], [3, 0]),
    ([True, False], None),
    ([1, None], None),
    ([[1, 2], [3]], None),
    (np.zeros((3, 4)), None),
    (np.array([0.5]), None),
    ([], None),
]


@pytest.mark.parametrize(("values", "expected"), LABELS, ids=lambda value: str(value)[:30])
def test_labels_in_the_forms_that_people_have(values, expected):
    found = as_labels(values)
    assert (found if found is None else found.tolist()) == expected


def test_pixels_are_bytes_whatever_they_are_kept_in():
    images = ARRAYS["x_test"]
    for form in (images, images.astype("int64"), images.astype("float32"), (images / 255).astype("float32")):
        np.testing.assert_array_equal(as_bytes(form), images)
    for form in (images.astype("int64") - 1, images * 1.5, images.astype("float32") * np.nan, images.astype(complex)):
        assert as_bytes(form) is None


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("train/cat/cat_dog.png", 3), ("train/5/1.png", 5), ("3_cat/1.png", 3), ("x/10008_airplane.png", 0),
        ("cats and dogs/1.png", None), ("cat or dog/1.png", None), ("12/1.png", None), ("1.png", None),
    ],
)  # fmt: skip
def test_the_label_in_the_path_of_a_picture(name, label):
    assert label_in(name) == label


def test_what_has_nothing_to_do_with_images_is_left():
    for name, content in (("a.txt", b"a note"), ("b.json", json.dumps({"a": 1}).encode()), ("c.bin", bytes(9))):
        assert [what for what, *_ in given(name, content)] == ["leave"]
