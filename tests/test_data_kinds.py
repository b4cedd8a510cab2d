"""A file's first bytes tell its kind, whatever it is called."""

import bz2
import gzip
import io
import lzma
import pickle
import tarfile
import zipfile

import h5py
import numpy as np
import pytest
import tiny_cifar
from scipy import io as scipy_io

from cnnlab.data import files as kinds
from cnnlab.data.files import BadDataError, kind_of


def written(write):
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def old_tar(file):
    """Without the mark that tars have since 1988."""
    header = bytearray(tarfile.TarInfo("a").tobuf(tarfile.USTAR_FORMAT))
    header[257:265] = bytes(8)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    file.write(header)


CONTENT = {
    "zip": written(lambda file: zipfile.ZipFile(file, "w").writestr("a", b"")),
    "gzip": gzip.compress(b"x"),
    "bzip2": bz2.compress(b"x"),
    "xz": lzma.compress(b"x"),
    "tar": tarfile.TarInfo("a").tobuf(),
    "tar, old": written(old_tar),
    "npy": written(lambda file: np.save(file, np.zeros(3))),
    "hdf5": written(lambda file: h5py.File(file, "w").close()),
    "hdf5, Matlab's": b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n\x1a\n",
    "mat": written(lambda file: scipy_io.savemat(file, {"a": 1})),
    "png": tiny_cifar.png(np.zeros((2, 2, 3), "uint8")),
    **{f"pickle, protocol {number}": pickle.dumps({}, number) for number in range(6)},
    "web page": b"\r\n <!-- login --> <!DOCTYPE HTML PUBLIC>",
    "web page, bare": b"<HTML>",
    "xml": b"\xef\xbb\xbf<?xml version='1.0'?><Error/>",
    "json": b' [1, 2, "\xc3',
    "text": "Größe, cut in a character: ü".encode()[:-1],
    "empty": b"",
    "unknown": b"\x03\x00\x7f" + bytes(600),
}


@pytest.mark.parametrize("kind", CONTENT)
def test_a_kind_by_its_first_bytes(kind):
    assert kind_of(CONTENT[kind][: kinds.HEAD_BYTES]) == kind.split(",")[0]


def test_whatever_pillow_raises_is_said_of_the_picture():
    for data, said in ((b"GIF89a", "is no PNG picture"), (CONTENT["png"][:45], "is no whole PNG picture")):
        with pytest.raises(BadDataError, match=said), kinds.opened_picture(data, "PNG") as image:
            image.load()
