"""A folder and an archive give the same files, in any order; what is no copy of the set is named."""

import stat
import zipfile

import pytest
import tiny_cifar
import tiny_mars

from cnnlab.data.archives import Limits, opened_copy
from cnnlab.data.files import BadDataError

SYNSET = "msl_synset_words-indexed.txt"
LIMITS = Limits("the Mars images", file=5_000, total=200_000, members=40)


def opened(path, limits=LIMITS, mark=SYNSET, other=lambda names: None):
    return opened_copy(path, limits, mark, other)


def deep_folder(parent):
    tiny_mars.write_folder(parent / "a" / "b")
    return parent / "a"


def as_tar(parent):
    return tiny_cifar.pack(tiny_mars.write_folder(parent), parent / "mars.tar.gz")


def zip_in_zip(parent):
    inner = tiny_mars.write_zip(parent / "inner")
    with zipfile.ZipFile(parent / "outer.zip", "w") as outer:
        outer.write(inner, "download/msl-images.zip")
    return parent / "outer.zip"


def renamed_zip(parent):
    tiny_mars.write_zip(parent / "x" / "y").rename(parent / "x" / "y" / "msl-images (1)")
    return parent


def deeper_in_the_zip(parent):
    content = {f"deep/{name}": data for name, data in tiny_mars.FILES.items()}
    return tiny_mars.write_zip(parent, content, [("elsewhere/deep/deeper/" + SYNSET, b"x")])


SHAPES = [
    tiny_mars.write_folder, tiny_mars.write_zip, deep_folder, as_tar, zip_in_zip, renamed_zip, deeper_in_the_zip,
]  # fmt: skip


@pytest.mark.parametrize("write", SHAPES)
def test_every_copy_holds_the_same(tmp_path, write):
    roomy = LIMITS._replace(file=100_000)
    with opened(write(tmp_path), roomy) as copy:
        assert copy.sizes == {name: len(content) for name, content in tiny_mars.FILES.items()}
        for name, content in reversed(tiny_mars.FILES.items()):
            assert copy.read(name) == content
        with pytest.raises(BadDataError, match="^is missing"):
            copy.read("none")
        small = copy._replace(limits=LIMITS._replace(file=10))
        with pytest.raises(BadDataError, match=r"^has 12 bytes, more than any file of the Mars images \(10\)"):
            small.read("README.txt")


def refused(path, said, **options):
    with pytest.raises(BadDataError, match=said), opened(path, **options):
        pass


def test_what_is_no_copy_is_named(tmp_path):
    path = tiny_mars.write_zip(tmp_path)
    refused(path, "msl-images.zip holds no none.txt", mark="none.txt")
    refused(path, "^msl-images.zip these are", mark="none.txt", other=lambda names: "these are " + " ".join(names))
    (tmp_path / "page.zip").write_bytes(b"<html>Sign in")
    refused(tmp_path / "page.zip", "^this is a web page")
    (tmp_path / "notes").mkdir()
    refused(tmp_path / "notes", f"this folder holds no {SYNSET}")
    refused(tmp_path / "absent", "no such file or folder")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_hostile_zip_is_refused(tmp_path):
    link = zipfile.ZipInfo("msl-images/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    extras = {
        "outside its folder": [("../climbed.JPG", b"")],
        "is a link": [(link, b"/etc/passwd")],
        "README.txt twice": [("msl-images/README.txt", b"")],
        "more than 40 members": [(str(number), b"") for number in range(40)],
    }
    for said, extra in extras.items():
        refused(tiny_mars.write_zip(tmp_path, extra=extra), said)


def test_of_several_archives_the_first_whole_one_is_read(tmp_path):
    tiny_mars.write_zip(tmp_path / "b")
    (tmp_path / "a.zip").write_bytes((tmp_path / "b" / "msl-images.zip").read_bytes()[:900])
    with opened(tmp_path) as copy:
        assert set(copy.sizes) == set(tiny_mars.FILES)
