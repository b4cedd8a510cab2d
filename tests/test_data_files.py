"""Paths as people write them, the files there and their changes, and a kind by its first bytes."""

import bz2
import errno
import gzip
import io
import lzma
import os
import pickle
import socket
import tarfile
import tempfile
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import tiny_cifar
from scipy import io as scipy_io

from cnnlab.data import files
from cnnlab.data.files import BadDataError, kind_of


@pytest.mark.parametrize("form", ["{}", " {}\n", "'{}'", '"{}" ', "\u201c{}\u201d", "{}/", "{}/../my data"])
def test_a_path_as_people_write_it(tmp_path, form):
    (tmp_path / "my data").mkdir()
    assert files.named_path(form.format(tmp_path / "my data")) == tmp_path / "my data"


def test_spaces_as_a_terminal_writes_them_and_names_that_really_have_quotes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("my data", "'quoted'", " spaced "):
        (tmp_path / name).mkdir()
        assert files.named_path(name) == tmp_path / name
    assert files.named_path(f"{tmp_path}/my\\ data") == tmp_path / "my data"


BAD = {
    "absent/file": r"no such file or folder: .* has no 'absent'",
    "file/below": "no such file or folder",
    "~nobody-of-that-name/x": "no such file or folder",
    "a" * 5000: r"cannot be read \(File name too long\)",
    "a\0b": "not the path of a file",
    " ''": "not the path of a file",
    "https://example.org/cifar.tar.gz": "an address on the web: download it",
    "loop": "no such file or folder",
}


@pytest.mark.parametrize("path", BAD, ids=lambda path: repr(path[:20]))
def test_a_path_that_leads_nowhere_is_said(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(BadDataError, match=BAD[path]):
        files.named_path(path)


def test_what_can_never_be_read_to_its_end_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with tempfile.TemporaryDirectory() as short, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{short}/socket")
        for path in (tmp_path / "pipe", f"{short}/socket", "/dev/zero"):
            with pytest.raises(BadDataError, match="neither a file nor a folder"):
                files.named_path(path)
    assert files.files_below(tmp_path) == []


def test_files_are_found_three_levels_down_in_the_order_of_people_and_without_clutter(tmp_path):
    names = ["part2", "part10", "a/1", "a/b/1", "a/b/c/1"]
    for name in [*names, "a/b/c/d/1", ".hidden", "a/.git/1", "__MACOSX/1", "a/._1"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a" / "round").symlink_to(tmp_path)  # which is followed no further than any other folder
    found = [file.relative_to(tmp_path).as_posix() for file in files.files_below(tmp_path)]
    assert [name for name in found if "round" not in name] == names


def test_what_may_not_be_read_hides_nothing_else(tmp_path, monkeypatch):
    for name in ("a/1", "b/1", "c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("text")
    (tmp_path / "d").symlink_to("nowhere")
    opened, listed = Path.open, Path.iterdir

    def refuse(function, name):
        def called(path, *arguments):
            if path.name == name:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return function(path, *arguments)

        return called

    monkeypatch.setattr(Path, "iterdir", refuse(listed, "a"))
    others = []
    assert files.files_below(tmp_path, others=others) == [tmp_path / "c", tmp_path / "b" / "1"]
    assert others == [tmp_path / "d", tmp_path / "a"]
    with pytest.raises(PermissionError):
        files.files_below(tmp_path / "a")
    monkeypatch.setattr(Path, "open", refuse(opened, "c"))
    assert [files.kind_at(tmp_path / name) for name in ("c", "b/1", "d")] == ["unreadable", "text", "unreadable"]


def test_folders_are_looked_into_as_deep_as_is_asked_and_through_links_or_not(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("1", "a/2", "a/b/3"):
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to(tmp_path / "a", target_is_directory=True)

    def found(**options):
        return [file.relative_to(tmp_path).as_posix() for file in files.files_below(tmp_path, **options)]

    assert found(levels=0) == ["1"]
    assert found(levels=1) == ["1", "a/2", "link/2"]
    assert found(links=False) == ["1", "a/2", "a/b/3"]


def test_more_files_than_any_data_set_has_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_MOST_FILES", 2)
    for name in "abc":
        (tmp_path / name).touch()
    with pytest.raises(BadDataError, match="more than 2 files: name the one with the data"):
        files.files_below(tmp_path)


def test_a_stamp_changes_with_any_file(tmp_path):
    (tmp_path / "a").mkdir()
    file = tmp_path / "a" / "x"
    file.write_text("one")
    seen = [files.stamp(tmp_path), files.stamp(tmp_path)]
    assert len(set(seen)) == 1
    os.utime(file, ns=(1, 1))
    seen.append(files.stamp(tmp_path))
    file.write_text("four")
    os.utime(file, ns=(1, 1))
    seen.append(files.stamp(tmp_path))
    file.rename(tmp_path / "a" / "y")
    seen.append(files.stamp(tmp_path))
    assert len(set(seen)) == 4
    assert files.stamp(tmp_path / "a" / "y") != files.stamp(tmp_path)


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
    assert kind_of(CONTENT[kind][: files.HEAD_BYTES]) == kind.split(",")[0]
