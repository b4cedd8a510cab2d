"""Folders and archives are read and never unpacked; what is hostile, cut short or too large is refused."""

import io
import pickle
import stat
import tarfile
import zipfile

import pytest
import tiny_cifar
import tiny_mars

from cnnlab.data import archives
from cnnlab.data.archives import BadDataError, Limits, Place

SYNSET = "msl_synset_words-indexed.txt"
WANTED = {f"{name}.bin" for name, *_ in tiny_cifar.batches()}
LIMITS = tiny_cifar.SPEC.limits
ZIP_LIMITS = Limits("the Mars images", file=5_000, total=200_000, members=40)


def test_places_come_by_layout_and_loose_before_packed(tmp_path):
    for name in ("b/one.txt", "a/two.txt", "a/one.txt", "one.zip"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    layouts = {"second": ("two.txt",), "first": ("one.txt", "other.txt")}
    found = archives.places_at(tmp_path, layouts, ("none.zip", "one.zip"))
    expected = [("a", "second"), ("a", "first"), ("b", "first"), ("one.zip", None)]
    assert found == [Place(tmp_path / name, layout) for name, layout in expected]
    assert archives.places_at(tmp_path / "one.zip", layouts, ()) == [Place(tmp_path / "one.zip", None)]
    assert archives.places_at(tmp_path, {}, ()) == []
    with pytest.raises(BadDataError, match="there is no such file or folder"):
        archives.places_at(tmp_path / "none", layouts, ())


def in_a_folder(parent):
    return archives.folder_copy(tiny_mars.write_folder(parent), ZIP_LIMITS, ("calibrated",))


def in_a_zip(parent):
    return archives.opened_zip(tiny_mars.write_zip(parent), ZIP_LIMITS, SYNSET)


def test_a_folder_and_a_zip_hold_the_same(tmp_path):
    folder = in_a_folder(tmp_path / "folder")
    with in_a_zip(tmp_path / "zip") as packed:
        for copy in (folder, packed):
            assert copy.sizes == {name: len(content) for name, content in tiny_mars.FILES.items()}
            assert dict(copy.files(["none", *tiny_mars.FILES])) == tiny_mars.FILES
            with pytest.raises(BadDataError, match="^is missing"):
                copy.read("none")
            small = copy._replace(limits=ZIP_LIMITS._replace(file=10))
            with pytest.raises(BadDataError, match=r"^has 12 bytes, more than any file of the Mars images \(10\)"):
                small.read("README.txt")
            with pytest.raises(BadDataError, match="^holds README.txt of 12 bytes, more than any file"):
                next(small.files(["README.txt"]))


def test_a_folder_in_the_zip_of_another_name(tmp_path):
    content = {f"deep/{name}": data for name, data in tiny_mars.FILES.items()}
    path = tiny_mars.write_zip(tmp_path, content, [("elsewhere/deep/deeper/" + SYNSET, b"x")])
    with archives.opened_zip(path, ZIP_LIMITS, SYNSET) as copy:
        assert set(copy.sizes) == set(tiny_mars.FILES)
    with pytest.raises(BadDataError, match="holds no none.txt"), archives.opened_zip(path, ZIP_LIMITS, "none.txt"):
        pass


def read_all(path):
    return dict(archives.read_tar(path, WANTED, LIMITS))


def tar_member(name, content=b"", kind=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(content)
    return info, content


HOSTILE_TARS = {
    r"outside its folder \('../../evil'\)": tar_member("../../evil", b"x"),
    r"outside its folder \('/etc/evil'\)": tar_member("/etc/evil", b"x"),
    r"outside its folder \('a\\\\..\\\\evil'\)": tar_member("a\\..\\evil", b"x"),
    "outside its folder .*C:": tar_member("C:/evil", b"x"),
    "link or a device": tar_member("cifar-10-batches-bin/link", kind=tarfile.SYMTYPE, link="/etc/passwd"),
    "link or a device .*hard": tar_member("hard", kind=tarfile.LNKTYPE, link="cifar-10-batches-bin/test_batch.bin"),
    "link or a device .*pipe": tar_member("pipe", kind=tarfile.FIFOTYPE),
    "holds test_batch.bin twice": tar_member("again/test_batch.bin", b"x"),
    "unpacks to more than": tar_member("zeros", bytes(LIMITS.total)),
}


@pytest.mark.parametrize("reason", HOSTILE_TARS)
def test_a_hostile_tar_is_refused(tmp_path, reason):
    folder = tiny_cifar.write_folder(tmp_path, "cifar-10-batches-bin")
    archive = tiny_cifar.pack(folder, tmp_path / "x.tar.gz", HOSTILE_TARS[reason])
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(BadDataError, match=reason):
        read_all(archive)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_member_that_claims_to_be_huge_is_not_read(tmp_path):
    info = tarfile.TarInfo("cifar-10-batches-bin/data_batch_1.bin")
    info.size = 10**12
    archive = tmp_path / "x.tar"
    archive.write_bytes(info.tobuf() + bytes(10_000))
    with pytest.raises(BadDataError, match="data_batch_1.bin of 1,000,000,000,000 bytes, more than"):
        read_all(archive)


def test_thousands_of_members_are_refused(tmp_path):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for number in range(1_001):
            tar.addfile(tarfile.TarInfo(str(number)))
    (tmp_path / "x.tar").write_bytes(file.getvalue())
    with pytest.raises(BadDataError, match="more than 1,000 members"):
        read_all(tmp_path / "x.tar")


@pytest.mark.parametrize("name", tiny_cifar.ARCHIVES)
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_truncated_archives(tmp_path, name, share):
    archive = tiny_cifar.write_archive(tmp_path, name)
    content = archive.read_bytes()
    archive.write_bytes(content[: int(share * len(content))])
    with pytest.raises(BadDataError, match="cut short|no .tar.gz archive"):
        read_all(archive)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_plain_tar(tmp_path, share):
    folder = tiny_cifar.write_folder(tmp_path, "cifar-10-batches-bin")
    archive = tiny_cifar.pack(folder, tmp_path / "x.tar", mode="w")
    archive.write_bytes(archive.read_bytes()[: int(share * archive.stat().st_size)])
    with pytest.raises(BadDataError, match="no .tar.gz archive, or a damaged one"):
        read_all(archive)


def test_a_pickle_is_made_of_nothing_but_what_is_known():
    known = {("builtins", "complex"): lambda *parts: ("stands for", parts)}
    stream = io.BytesIO(pickle.dumps([1 + 2j]) + pickle.dumps("next"))
    assert archives.unpickled(stream, known, "it") == [("stands for", (1.0, 2.0))]
    assert archives.unpickled(stream, known, "it") == "next"
    with pytest.raises(BadDataError, match="no whole pickle"):
        archives.unpickled(stream, known, "it")
    with pytest.raises(BadDataError, match="asks to run builtins.complex, which it never does: refused"):
        archives.unpickled(io.BytesIO(pickle.dumps(1 + 2j)), {}, "it")


def test_what_a_pickle_refers_to_is_asked_of_the_caller():
    content = b"(Pone\nPtwo\nl."
    assert archives.unpickled(io.BytesIO(content), {}, "it", str.upper) == ["ONE", "TWO"]
    with pytest.raises(BadDataError, match="refers to something outside it, which it never does"):
        archives.unpickled(io.BytesIO(content), {}, "it")


def zip_member(name, mode=stat.S_IFREG | 0o644):
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


HOSTILE_ZIPS = {
    "outside its folder": (zip_member("../climbed.JPG"), b""),
    "land outside": (zip_member("/etc/climbed"), b""),
    "is a link": (zip_member("msl-images/link", stat.S_IFLNK | 0o777), b"/etc/passwd"),
    "unpacks to more than": (zip_member("msl-images/bomb"), bytes(ZIP_LIMITS.total)),
    "README.txt twice": (zip_member("msl-images/README.txt"), b""),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("said", HOSTILE_ZIPS)
def test_a_hostile_zip_is_refused(tmp_path, said):
    name, content = HOSTILE_ZIPS[said]
    name.compress_type = zipfile.ZIP_DEFLATED
    path = tiny_mars.write_zip(tmp_path / "copy", extra=[(name, content)])
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(BadDataError, match=said), archives.opened_zip(path, ZIP_LIMITS, SYNSET):
        pass
    assert sorted(tmp_path.rglob("*")) == before


def test_a_zip_of_thousands_of_members_is_refused(tmp_path):
    path = tiny_mars.write_zip(tmp_path, extra=[(zip_member(str(number)), b"") for number in range(40)])
    with pytest.raises(BadDataError, match="more than 40 members"), archives.opened_zip(path, ZIP_LIMITS, SYNSET):
        pass
