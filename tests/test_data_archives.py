"""Archives are read and never unpacked, however they are packed; what is hostile, cut short or too large is refused.

A folder and an archive give the same files, in any order; what is no copy of the set is named.
"""

import gzip
import io
import stat
import tarfile
import zipfile

import pytest
import tiny_cifar
import tiny_mars

from cnnlab.data import archives
from cnnlab.data.archives import Limits, opened_copy
from cnnlab.data.files import BadDataError

LIMITS = Limits("CIFAR-10", file=70_000, total=500_000, members=40)
NAMES = {f"{name}.bin" for name, *_ in tiny_cifar.batches()}


def read_all(path, limits=LIMITS):
    """Name to bytes of everything at `path`."""
    return {member.name: member.read() for _, members in archives.groups(path, limits) for member in members}


@pytest.fixture
def folder(tmp_path):
    return tiny_cifar.write_folder(tmp_path / "from", "cifar-10-batches-bin")


def as_tar(mode):
    return lambda folder, path: tiny_cifar.pack(folder, path, mode=mode)


def as_zip(folder, path, *extra):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in folder.iterdir():
            archive.write(file, f"{folder.name}/{file.name}")
        for info, content in extra:
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return path


PACKERS = {"gz": as_tar("w:gz"), "bz2": as_tar("w:bz2"), "xz": as_tar("w:xz"), "plain": as_tar("w"), "zip": as_zip}


@pytest.mark.parametrize("packer", PACKERS)
def test_what_is_packed_comes_out_whatever_it_is_called(tmp_path, folder, packer):
    path = PACKERS[packer](folder, tmp_path / "renamed (1)")
    expected = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert {name.rsplit("/", 1)[1]: content for name, content in read_all(path).items()} == expected
    assert read_all(folder) == expected


def test_loose_files_come_first_and_together_then_each_archive(tmp_path, folder):
    as_zip(folder, tmp_path / "a.zip")
    tiny_cifar.pack(folder, tmp_path / "b.tgz")
    found = [
        (name, {member.name.split("/")[-1] for member in members})
        for name, members in archives.groups(tmp_path, LIMITS)
    ]
    assert found == [("", NAMES), ("a.zip", NAMES), ("b.tgz", NAMES)]


def test_a_tar_of_what_is_in_a_folder_begins_with_the_folder_itself(tmp_path, folder):
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as tar:  # as `tar czf x.tar.gz .`
        tar.add(folder, ".")
    assert {name.rsplit("/", 1)[1] for name in read_all(tmp_path / "x.tar.gz")} == NAMES


def test_archives_are_entered_three_deep_and_no_deeper(tmp_path):
    content = b"x" * 600
    for _ in range(4):
        content = gzip.compress(content)
    (tmp_path / "four").write_bytes(content)
    (found,) = read_all(tmp_path / "four").values()
    assert gzip.decompress(found) == b"x" * 600


def tar_member(name, content=b"", kind=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(content)
    return info, content


BATCH = "cifar-10-batches-bin/test_batch.bin"
HOSTILE_TARS = {
    r"outside its folder \('../../evil'\)": tar_member("../../evil", b"x"),
    r"outside its folder \('/etc/evil'\)": tar_member("/etc/evil", b"x"),
    r"outside its folder \('a\\\\..\\\\evil'\)": tar_member("a\\..\\evil", b"x"),
    "outside its folder .*C:": tar_member("C:/evil", b"x"),
    "link or a device": tar_member("cifar-10-batches-bin/link", kind=tarfile.SYMTYPE, link="/etc/passwd"),
    "link or a device .*hard": tar_member("hard", kind=tarfile.LNKTYPE, link=BATCH),
    "link or a device .*pipe": tar_member("pipe", kind=tarfile.FIFOTYPE),
    f"holds {BATCH} twice": tar_member(BATCH, b"x"),
    "unpacks to more than 500,000 bytes": tar_member("zeros", bytes(LIMITS.total)),
}


@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize("reason", HOSTILE_TARS)
def test_a_hostile_tar_is_refused(tmp_path, folder, reason, within):
    path = tiny_cifar.pack(folder, tmp_path / "x.tar.gz", HOSTILE_TARS[reason])
    if within:
        with zipfile.ZipFile(tmp_path / "outer.zip", "w") as outer:
            outer.write(path, "x.tar.gz")
        path = tmp_path / "outer.zip"
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(BadDataError, match=reason):
        read_all(path, LIMITS._replace(file=10**6))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_member_that_claims_to_be_huge_is_not_read(tmp_path):
    info = tarfile.TarInfo("cifar-10-batches-bin/data_batch_1.bin")
    info.size = 10**12
    (tmp_path / "x.tar").write_bytes(info.tobuf() + bytes(10_000))
    with pytest.raises(BadDataError, match="has 1,000,000,000,000 bytes, more than any file of CIFAR-10"):
        read_all(tmp_path / "x.tar")


def test_thousands_of_members_are_refused(tmp_path):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for number in range(41):
            tar.addfile(tarfile.TarInfo(str(number)))
    (tmp_path / "x.tar").write_bytes(file.getvalue())
    with pytest.raises(BadDataError, match="more than 40 members"):
        read_all(tmp_path / "x.tar")


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_truncated_archives(tmp_path, folder, packer, share):
    path = PACKERS[packer](folder, tmp_path / "x")
    content = path.read_bytes()
    path.write_bytes(content[: max(600, int(share * len(content)))])
    with pytest.raises(BadDataError, match="is cut short"):
        read_all(path)


@pytest.mark.parametrize("packer", ["gz", "bz2", "xz", "zip"])
def test_damaged_archives(tmp_path, folder, packer):
    path = PACKERS[packer](folder, tmp_path / "x")
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :][:64] = bytes(64)
    content[len(content) // 2 : len(content) // 2 + 64] = bytes(64)
    path.write_bytes(content)
    with pytest.raises(BadDataError, match="is a damaged .* archive|is cut short"):
        read_all(path)


def zip_member(name, mode=stat.S_IFREG | 0o644):
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


HOSTILE_ZIPS = {
    "outside its folder": (zip_member("../climbed.JPG"), b""),
    "land outside": (zip_member("/etc/climbed"), b""),
    "is a link": (zip_member("link", stat.S_IFLNK | 0o777), b"/etc/passwd"),
    "has 500,000 bytes, more than any file": (zip_member("bomb"), bytes(LIMITS.total)),
    "test_batch.bin twice": (zip_member(BATCH), b""),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("said", HOSTILE_ZIPS)
def test_a_hostile_zip_is_refused(tmp_path, folder, said):
    path = as_zip(folder, tmp_path / "x.zip", HOSTILE_ZIPS[said])
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(BadDataError, match=said):
        read_all(path)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_encrypted_zip_is_said_to_be_one(tmp_path):
    path = as_zip(tiny_cifar.write_folder(tmp_path, "package"), tmp_path / "x.zip")
    content = bytearray(path.read_bytes())
    for mark, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        start = -1
        while (start := content.find(mark, start + 1)) >= 0:
            content[start + place] |= 1
    path.write_bytes(content)
    with pytest.raises(BadDataError, match="encrypted, password required"):
        read_all(path)


def test_a_zip_of_thousands_of_members_is_refused(tmp_path, folder):
    path = as_zip(folder, tmp_path / "x.zip", *[(zip_member(str(number)), b"") for number in range(40)])
    with pytest.raises(BadDataError, match="more than 40 members"):
        read_all(path)


# Copies whose files are read in any order.
SYNSET = "msl_synset_words-indexed.txt"
MARS_LIMITS = Limits("the Mars images", file=5_000, total=200_000, members=40)


def opened(path, limits=MARS_LIMITS, mark=SYNSET, other=lambda names: None):
    return opened_copy(path, limits, mark, other)


def deep_folder(parent):
    tiny_mars.write_folder(parent / "a" / "b")
    return parent / "a"


def mars_tar(parent):
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


COPIES = [
    tiny_mars.write_folder, tiny_mars.write_zip, deep_folder, mars_tar, zip_in_zip, renamed_zip, deeper_in_the_zip,
]  # fmt: skip


@pytest.mark.parametrize("write", COPIES)
def test_every_copy_holds_the_same(tmp_path, write):
    roomy = MARS_LIMITS._replace(file=100_000)
    with opened(write(tmp_path), roomy) as copy:
        sizes = {name: member.size for name, member in copy.items()}
        assert sizes == {name: len(content) for name, content in tiny_mars.FILES.items()}
        for name, content in reversed(tiny_mars.FILES.items()):
            assert copy.read(name) == content
        with pytest.raises(BadDataError, match="^is missing"):
            copy.read("none")


@pytest.mark.parametrize("write", [tiny_mars.write_folder, tiny_mars.write_zip])
def test_a_file_that_is_too_large_is_not_read(tmp_path, write):
    said = r"^has 12 bytes, more than any file of the Mars images \(10\)"
    with opened(write(tmp_path), MARS_LIMITS._replace(file=10)) as copy, pytest.raises(BadDataError, match=said):
        copy.read("README.txt")


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
def test_a_copy_in_a_hostile_zip_is_refused(tmp_path):
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
        assert set(copy) == set(tiny_mars.FILES)
