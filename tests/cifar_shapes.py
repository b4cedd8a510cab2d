"""The tiny CIFAR-10 in the forms that people have it in: each function writes one, and returns the path to load."""

import csv
import gzip
import io
import pickle
import shutil
import zipfile
from functools import partial

import h5py
import numpy as np
import pytest
import tiny_cifar
from scipy import io as scipy_io
from tiny_cifar import ARRAYS, COUNT

from cnnlab.data import CIFAR10_CLASSES

BIN, PY, NPM = tiny_cifar.LAYOUTS
# The set in another order, as in a shuffled export.
ORDER = np.random.default_rng(3).permutation(5 * COUNT)
SHUFFLED = {**ARRAYS, "x_train": ARRAYS["x_train"][ORDER], "y_train": ARRAYS["y_train"][ORDER]}


def zipped(folder, archive, top=""):
    """Zip the contents of `folder`, below the folder `top` of the archive; return the path of `archive`."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            packed.write(file, f"{top}{file.relative_to(folder)}")
    return archive


def folder_of(parent, files):
    """A folder with `files`, a dict of relative names to bytes."""
    for name, content in files.items():
        (parent / name).parent.mkdir(parents=True, exist_ok=True)
        (parent / name).write_bytes(content)
    return parent


def made(folder):
    folder.mkdir(parents=True)
    return folder


def npz(parent, **arrays):
    np.savez_compressed(parent / "cifar10.npz", **arrays)
    return parent / "cifar10.npz"


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def hdf5(parent, arrays):
    with h5py.File(parent / "cifar.h5", "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return parent / "cifar.h5"


def packed_as(mode, name):
    return lambda parent: tiny_cifar.pack(tiny_cifar.write_folder(parent / "from", PY), parent / name, mode=mode)


def archive_in(folder, name, called):
    """The archive `name`, renamed to `called`, in `folder`; the path to load is the topmost part of `folder`."""

    def write(parent):
        source = tiny_cifar.write_archive(parent / "source", name)
        target = parent / folder / called
        target.parent.mkdir(parents=True)
        shutil.move(source, target)
        return parent / folder.split("/")[0]

    return write


def below(*folders):
    return lambda parent: (tiny_cifar.write_folder(parent.joinpath(*folders), PY), parent / folders[0])[1]


def zip_of(name):
    def write(parent):
        return zipped(tiny_cifar.write_archive(parent / "inside", name).parent, parent / "archive.zip")

    return write


def zip_in_zip(parent):
    inner = zipped(tiny_cifar.write_folder(parent, BIN), parent / "inner.zip")
    folder_of(parent / "outer", {"inner.zip": inner.read_bytes(), "__MACOSX/._inner.zip": b"\0\5\x16\7"})
    return zipped(parent / "outer", parent / "outer.zip")


def planes(images):
    return images.transpose(0, 3, 1, 2).reshape(-1, 3072)


def pickled(protocol, labels, suffix=""):
    """Batches that somebody loaded and saved again."""

    def write(parent):
        files = {
            f"{name}{suffix}": pickle.dumps({"data": planes(images), "labels": labels(own)}, protocol)
            for name, images, own in tiny_cifar.batches()
        }
        return folder_of(parent / "again", files)

    return write


def matlab(parent):
    folder = parent / "cifar-10-batches-mat"
    folder.mkdir(parents=True)
    for name, images, labels in tiny_cifar.batches():
        batch = {"data": planes(images), "labels": labels[:, None], "batch_label": name}
        scipy_io.savemat(folder / f"{name}.mat", batch)
    return folder


def parquet(parent):
    """As on Hugging Face: PNG pictures in a struct column, one file per split."""
    pyarrow, writer = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    folder = parent / "cifar10" / "plain_text"
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        images = [{"bytes": tiny_cifar.png(image), "path": None} for image in ARRAYS[f"x_{split}"]]
        table = pyarrow.table({"img": images, "label": ARRAYS[f"y_{split}"].astype("int64")})
        writer.write_table(table, folder / f"{split}-00000-of-00001.parquet")
    return parent / "cifar10"


def pictures(parent, path, images=ARRAYS):
    """A PNG for each image at `path(split, number, class name)`."""
    for split in ("train", "test"):
        for number, (image, label) in enumerate(zip(images[f"x_{split}"], images[f"y_{split}"], strict=True), 1):
            file = parent / path(split, number, CIFAR10_CLASSES[label])
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(tiny_cifar.png(image))
    return parent


def fast_ai(parent):
    folder = pictures(parent / "cifar10", lambda split, number, name: f"{split}/{name}/{number}_{name}.png")
    (folder / "labels.txt").write_text("\n".join(CIFAR10_CLASSES))
    return folder


def with_table(parent):
    """Numbered pictures and a table of labels, like the training images of the Kaggle competition."""
    folder = pictures(parent / "kaggle", lambda split, number, name: f"{split}/{split}{number}.png")
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "label"])
        for split in ("train", "test"):
            writer.writerows((f"{split}{k}", CIFAR10_CLASSES[y]) for k, y in enumerate(ARRAYS[f"y_{split}"], 1))
    return folder


def lab_cache(parent):
    files = {f"cnnlab/cifar10/{name}.npy": npy(array) for name, array in ARRAYS.items()}
    return folder_of(parent, {**files, "cnnlab/cifar10/manifest.json": b"{}", "cnnlab/cifar10.lock": b""}) / "cnnlab"


def single_file(parent):
    tiny_cifar.write_folder(parent, BIN)
    whole = b"".join(file.read_bytes() for file in sorted((parent / BIN).glob("*.bin")))
    return folder_of(parent / "one", {"all.dat": whole}) / "all.dat"


def packed_batches(parent):
    folder = tiny_cifar.write_folder(parent, PY)
    return folder_of(parent / "gz", {f"{file.name}.gz": gzip.compress(file.read_bytes()) for file in folder.iterdir()})


def in_capitals(parent):
    folder = tiny_cifar.write_folder(parent / "from", PY)
    return folder_of(parent / PY.upper(), {file.name.upper(): file.read_bytes() for file in folder.iterdir()})


def links(parent):
    """As in a cache that keeps its content elsewhere: a link to each file."""
    (parent / "links").mkdir()
    for number, file in enumerate(sorted(tiny_cifar.write_folder(parent / "blobs", BIN).iterdir())):
        (parent / "links" / f"{number}").symlink_to(file)
    return parent / "links"


def link_to_a_folder(parent):
    (parent / "here").mkdir()
    (parent / "here" / "data").symlink_to(tiny_cifar.write_folder(parent / "far", NPM), target_is_directory=True)
    return parent / "here"


def keras_2(parent):
    """The folder and the archive that it was unpacked from."""
    datasets = tiny_cifar.write_folder(parent / "datasets", PY).parent
    tiny_cifar.write_archive(parent / "source", "cifar-10-python.tar.gz").rename(datasets / f"{PY}.tar.gz")
    return datasets


def two_halves(parent):
    """Some batches in one layout, some in another, under meaningless names."""
    loose = tiny_cifar.write_folder(parent, PY)
    binary = tiny_cifar.write_folder(parent, BIN)
    files = {f"a{number}": file.read_bytes() for number, file in enumerate(sorted(loose.glob("data_batch_[123]")))}
    files |= {f"b{number}": file.read_bytes() for number, file in enumerate(sorted(binary.glob("*[45t][_.]b*in")))}
    return folder_of(parent / "mixed", files)


def converted(images=lambda array: array, labels=lambda array: array):
    """An .npz whose arrays went through the given functions."""
    return lambda parent: npz(parent, **{k: labels(a) if a.ndim == 1 else images(a) for k, a in ARRAYS.items()})


GOOD = {
    **{f"folder {name}": partial(tiny_cifar.write_folder, name=name) for name in tiny_cifar.LAYOUTS},
    **{name: partial(tiny_cifar.write_archive, name=name) for name in tiny_cifar.ARCHIVES},
    "Keras 3": below("datasets", "cifar-10-batches-py-target"),
    "Keras 2, archive only": archive_in("datasets", "cifar-10-python.tar.gz", "cifar-10-batches-py.tar.gz"),
    "Keras 3, archive only": archive_in("datasets", "cifar-10-python.tar.gz", "cifar-10-batches-py-target_archive"),
    "downloaded twice": archive_in("Downloads", "cifar-10-python.tar.gz", "cifar-10-python (1).tar.gz"),
    "Keras 2": keras_2,
    "two levels above": below("a", "b"),
    "names in capitals": in_capitals,
    "archive in capitals": archive_in("Downloads", "cifar-10-python.tar.gz", "CIFAR-10-PYTHON.TAR.GZ"),
    "archive of another suffix": archive_in("Downloads", "cifar-10-binary.tar.gz", "cifar10.crdownload"),
    "links to the files": links,
    "a link to the folder": link_to_a_folder,
    "archive three levels down": archive_in("a/b/c/d", "cifar-10-binary.tar.gz", "x"),
    "zip of the folder": lambda parent: zipped(tiny_cifar.write_folder(parent, PY), parent / "a.zip", f"{PY}/"),
    "flat zip": lambda parent: zipped(tiny_cifar.write_folder(parent, BIN), parent / "a.zip"),
    "zip of npm's": lambda parent: zipped(tiny_cifar.write_folder(parent, NPM), parent / "a.zip"),
    "zip of tar.gz": zip_of("cifar-10-python.tar.gz"),
    "zip in zip": zip_in_zip,
    "zip in zip in zip": lambda parent: zipped(
        folder_of(parent / "y", {"outer.zip": zip_in_zip(parent / "x").read_bytes()}), parent / "whole.zip"
    ),
    "zip of npz": lambda parent: zipped(npz(made(parent / "x"), **ARRAYS).parent, parent / "a.zip"),
    "npz, packed": lambda parent: folder_of(
        parent / "y", {"a.npz.gz": gzip.compress(npz(made(parent / "x"), **ARRAYS).read_bytes())}
    ),
    "tar": packed_as("w", "x.tar"),
    "tar.bz2": packed_as("w:bz2", "x.tar.bz2"),
    "tar.xz": packed_as("w:xz", "x.tar.xz"),
    "batches packed one by one": packed_batches,
    "npz": converted(),
    "npz, labels (n, 1)": converted(labels=lambda array: array[:, None]),
    "npz, shuffled": lambda parent: npz(parent, **SHUFFLED),
    "npz, all in one": lambda parent: npz(
        parent, **{k: np.concatenate([ARRAYS[f"{k}_test"], ARRAYS[f"{k}_train"]]) for k in "xy"}
    ),
    "npz, channels first, int16": converted(lambda array: array.transpose(0, 3, 1, 2).astype("int16")),
    "npz, floats and one-hot": converted(
        lambda array: (array / 255).astype("float32"), lambda array: np.eye(10)[array]
    ),
    "npz, flat, labels by name": converted(
        lambda array: array.reshape(len(array), -1), lambda array: np.array(CIFAR10_CLASSES)[array]
    ),
    "folder of npy": lambda parent: folder_of(parent / "npy", {f"{k}.npy": npy(a) for k, a in ARRAYS.items()}),
    "the lab's cache": lab_cache,
    "h5": lambda parent: hdf5(parent, ARRAYS),
    "h5 in groups, Matlab's order": lambda parent: hdf5(
        parent, {f"{k[2:]}/{k[0]}": a.transpose(3, 1, 2, 0) if a.ndim == 4 else a for k, a in ARRAYS.items()}
    ),
    "parquet": parquet,
    "fast.ai": fast_ai,
    "pictures with a table": with_table,
    "mat": matlab,
    "mat, packed": lambda parent: tiny_cifar.pack(matlab(parent), parent / "cifar-10-matlab.tar.gz"),
    **{f"pickled again, protocol {k}": pickled(k, lambda labels: labels) for k in (2, 3, 4, 5)},
    "pickled again, list of NumPy's": pickled(4, list),
    "pickled again, .pkl": pickled(4, lambda labels: labels.tolist(), ".pkl"),
    "pickled pairs": lambda parent: (
        folder_of(
            parent,
            {"p.pkl": pickle.dumps(((ARRAYS["x_train"], ARRAYS["y_train"]), (ARRAYS["x_test"], ARRAYS["y_test"])))},
        )
        / "p.pkl"
    ),
    "one binary file": single_file,
    "two layouts together": two_halves,
}


def cut(name):
    def write(parent):
        path = GOOD[name](parent)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        return path

    return write


def file_of(name, content):
    return lambda parent: folder_of(parent / "downloaded", {name: content}) / name


def cifar100(parent):
    batch = {b"data": np.zeros((9, 3072), "uint8"), b"fine_labels": [0] * 9, b"coarse_labels": [0] * 9}
    return folder_of(parent / "cifar-100-python", {"train": pickle.dumps(batch, 2), "test": pickle.dumps(batch, 2)})


def competition(parent):
    """As in the Kaggle competition: altered test pictures, and no labels for them."""
    altered = {**ARRAYS, "x_test": ARRAYS["x_test"] ^ 1}
    folder = pictures(parent / "kaggle", lambda split, number, name: f"{split}/{number}.png", altered)
    rows = [f"{k},{CIFAR10_CLASSES[y]}\n" for k, y in enumerate(ARRAYS["y_train"], 1)]
    (folder / "trainLabels.csv").write_text("id,label\n" + "".join(rows))
    (folder / "sampleSubmission.csv").write_text("id,label\n" + "".join(f"{k},cat\n" for k in range(1, 300)))
    return folder


def changed(name, value):
    return lambda parent: npz(parent, **{**ARRAYS, name: value})


PAGE = b"\n<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>"
WRONG_LABELS = np.where(np.arange(5 * COUNT) < 3, (ARRAYS["y_train"] + 1) % 10, ARRAYS["y_train"])
BAD = {
    "web page": (file_of("cifar-10-python.tar.gz", PAGE), "this is a web page"),
    "empty file": (file_of("cifar-10-python.tar.gz", b""), "this is empty"),
    "7z": (file_of("cifar-10.zip", b"7z\xbc\xaf\x27\x1c" + bytes(50)), r"this is a 7z archive, .*unpack it"),
    "rar": (file_of("cifar.rar", b"Rar!\x1a\x07\0"), "this is a RAR archive"),
    "7z within a zip": (
        lambda parent: zipped(file_of("train.7z", b"7z\xbc\xaf\x27\x1c")(parent).parent, parent / "a.zip"),
        "train.7z is a 7z archive",
    ),
    "pointer": (file_of("test.parquet", b"version https://git-lfs.github.com/spec/v1\n"), "only a Git LFS pointer"),
    "JPEG pictures": (file_of("cat/1.jpg", b"\xff\xd8\xff\xe0"), "this is a JPEG picture"),
    "CIFAR-100": (cifar100, "train is CIFAR-100, another data set"),
    "CIFAR-100, binary": (file_of("train.bin", bytes(3074 * 4)), "train.bin is CIFAR-100, another data set"),
    "CIFAR-100, npz": (
        lambda parent: npz(parent, x_train=ARRAYS["x_train"] ^ 1, y_train=np.arange(100)),
        "labels go beyond 9, as those of CIFAR-100",
    ),
    **{f"half of {name}": (cut(name), "is cut short") for name in ("tar", "tar.bz2", "tar.xz", "flat zip", "npz")},
    "half of tar.gz": (cut("cifar-10-binary.tar.gz"), "cut short"),
    "competition": (competition, r"lacks 20 of the 120 images: all of test_batch\n.*20 images .*altered(.|\n)*Kaggle"),
    "labels wrong": (changed("y_train", WRONG_LABELS), "labels 3 images differently"),
    "labels missing": (changed("y_test", np.zeros(0)), "gives no label to 20 images"),
    "labels in another order": (changed("y_train", np.roll(ARRAYS["y_train"], 7)), "gives no label to 100 images"),
    "an altered image": (
        changed("x_test", ARRAYS["x_test"] ^ (np.arange(COUNT) == 3)[:, None, None, None]),
        "1 image not of",
    ),
    "a note": (file_of("note.txt", b"see the web"), "this is a text file"),
    "a folder of notes": (
        lambda parent: folder_of(parent / "x", {"a.txt": b"see the web"}),
        "folder holds no CIFAR-10 a",
    ),
    "an address": (lambda parent: "https://www.cs.toronto.edu/~kriz/cifar.html", "an address on the web"),
    "nothing at all": (lambda parent: "   ", "not the path of a file"),
    "a misspelt name": (lambda parent: parent / "cifra" / "x", "no such file or folder: .* has no 'cifra'"),
}
