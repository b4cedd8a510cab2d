"""Files on this machine: paths as people write them, the files that lie there, and their kinds by their first bytes.

File names say little: a login page may have been saved under any name.
"""

import codecs
import contextlib
import hashlib
import os
import re
import tarfile
from pathlib import Path

# How many levels of folders are searched.
LEVELS = 3
_MOST_FILES = 1_000_000
_CLUTTER = ("__macosx", "@eadir", "thumbs.db", "desktop.ini")
_QUOTES = {'"': '"', "'": "'", "\u201c": "\u201d", "\u2018": "\u2019"}
# The header of a tar, and the eight bytes after it that mark a Matlab 7.3 file; all other marks lie within these.
HEAD_BYTES = 520
_HDF5 = b"\x89HDF\r\n\x1a\n"
_MARKS = {
    b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"PK\x03\x04": "zip", b"PK\x05\x06": "zip",
    b"\x93NUMPY": "npy", _HDF5: "hdf5", b"MATLAB 5.0 MAT-file": "mat", b"PAR1": "parquet", b"\x89PNG\r\n\x1a\n": "png",
    b"\xff\xd8\xff": "jpeg", b"7z\xbc\xaf\x27\x1c": "7z", b"Rar!\x1a\x07": "rar", b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4", b"%PDF": "pdf", b"ARROW1": "arrow", b"version https://git-lfs": "git-lfs",
    b"(dp": "pickle", b"}q": "pickle",
}  # fmt: skip
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_PAGE = re.compile(rb"\s*(<!--.*?-->\s*)?<(!doctype\s+html|html|head|body|script)\b", re.IGNORECASE | re.DOTALL)
# Kinds that no reader here opens, and what to tell whoever has one.
_UNREAD = {
    "empty": "is empty: the download failed or has not begun",
    "web page": "is a web page, as servers send to ask for a login or to report an error: download the file again",
    "xml": "is XML text, as servers send to report an error: download the file again",
    "7z": "is a 7z archive, which Python cannot read: unpack it (7z x) and name the folder",
    "rar": "is a RAR archive, which Python cannot read: unpack it and name the folder",
    "zstd": "is packed with zstd, which Python cannot read: unpack it (zstd -d) and name the result",
    "lz4": "is packed with lz4, which Python cannot read: unpack it (lz4 -d) and name the result",
    "pdf": "is a PDF document",
    "jpeg": "is a JPEG picture, whose pixels only approximate the original ones",
    "arrow": "is an Arrow file: save the data set as Parquet and name that",
    "git-lfs": "is only a Git LFS pointer: fetch the file itself (git lfs pull)",
    "json": "is JSON text",
    "text": "is a text file",
    "unreadable": "cannot be read",
    "unknown": "is of an unknown kind",
}


class BadDataError(ValueError):
    """A file is not what it should be: truncated, altered, of another shape, or hostile."""


def kind_of(head):
    """The kind (str) of the file that begins with `head` (bytes, HEAD_BYTES or all of it), "unknown" for any other."""
    if not head:
        return "empty"
    if head.startswith(b"MATLAB 7.3") or head[512:].startswith(_HDF5):
        return "hdf5"
    for mark, kind in _MARKS.items():
        if head.startswith(mark):
            return kind
    if _is_tar(head):
        return "tar"
    if _PICKLE.match(head):
        return "pickle"
    if _PAGE.match(head):
        return "web page"
    return _kind_of_text(head)


def describe(kind):
    """What to say about a file of `kind`, after its name: 'is a web page, ...'."""
    return _UNREAD.get(kind, f"is a file of kind {kind}")


def _is_tar(head):
    if head[257:262] == b"ustar":
        return True
    try:
        tarfile.TarInfo.frombuf(head[:512], "utf-8", "surrogateescape")  # it verifies the header's checksum
    except tarfile.HeaderError:
        return False
    return True


def _kind_of_text(head):
    text = head.removeprefix(b"\xef\xbb\xbf").strip()
    if re.search(rb"[\x00-\x08\x0e-\x1f\x7f]", text):
        return "unknown"
    with contextlib.suppress(UnicodeDecodeError):
        codecs.getincrementaldecoder("utf-8")().decode(text)  # the last character may be cut off
        if text.startswith((b"[", b"{")):
            return "json"
        return "xml" if text.startswith(b"<?xml") else "text"
    return "unknown"


@contextlib.contextmanager
def refusing(said):
    """Turn any exception from a library in the block (none promises a type) into a BadDataError that says `said`."""
    try:
        yield
    except BadDataError:
        raise
    except Exception as error:
        raise BadDataError(f"{said} ({str(error) or type(error).__name__})") from None


@contextlib.contextmanager
def reading(said="it cannot be read"):
    """Turn an OSError in reading a copy into a BadDataError, so that any other OSError is one of the cache."""
    try:
        yield
    except OSError as error:
        raise BadDataError(f"{said} ({error.strerror or error})") from None


@reading()
def named_path(path):
    """The absolute Path of the file or folder that a person wrote as `path` (str or Path).

    Understands `~`, and the results of copying and dragging: quotes and spaces around the path,
    spaces after backslashes. Raises BadDataError if there is no such file or folder.
    """
    text = str(path).strip()
    if _QUOTES.get(text[:1]) == text[-1:] and len(text) > 1:
        text = text[1:-1].strip()
    if not text or "\0" in text:
        raise BadDataError("that is not the path of a file or folder")
    for written in (str(path), text, text.replace("\\ ", " ")):
        found = _expanded(written)
        if found.exists():
            if not (found.is_file() or found.is_dir()):
                raise BadDataError("this is neither a file nor a folder")
            return found.resolve()
    if re.match(r"[a-z]+://", text):
        raise BadDataError("this is an address on the web: download it, and name the file")
    raise BadDataError(f"there is no such file or folder{_nearest(_expanded(text))}")


@reading()
def stamp(path):
    """A hash (hex) over names, sizes and times of the files at `path`: it changes when any of them does."""
    digest = hashlib.sha256()
    for file in files_below(path):
        facts = file.stat()
        digest.update(f"{file.relative_to(path)}\t{facts.st_size}\t{facts.st_mtime_ns}\n".encode(errors="replace"))
    return digest.hexdigest()


def files_below(path, levels=LEVELS, links=True, others=None):
    """The regular files at `path`: itself, or those down to `levels` folders below it, part2 before part10.

    `links`: whether to follow links to folders; `others`: a list that receives unreadable folders, and what is
    neither file nor folder. Raises BadDataError for more files than a data set has.
    """
    if path.is_file():
        return [path]
    found, folders, others = [], [path], [] if others is None else others
    for _ in range(levels + 1):
        deeper = []
        for folder in folders:
            try:
                files, inner, rest = entries(folder)
            except PermissionError:
                if folder == path:
                    raise
                others.append(folder)
                continue
            found += files
            deeper += [each for each in inner if links or not each.is_symlink()]
            others += rest
        if len(found) > _MOST_FILES:
            raise BadDataError(f"this folder holds more than {_MOST_FILES:,} files: name the one with the data")
        folders = deeper
    return found


def entries(folder):
    """(regular files, folders, other things) in `folder`, part2 before part10, without hidden files and clutter."""
    files, folders, others = [], [], []
    shown = (entry for entry in folder.iterdir() if not is_clutter(entry.name))
    for entry in sorted(shown, key=lambda entry: natural(entry.name)):
        (files if entry.is_file() else folders if entry.is_dir() else others).append(entry)
    return files, folders, others


def natural(name):
    """A sort key that puts part2 before part10, whatever the case of the letters."""
    parts = re.split(r"(\d+)", name)
    return [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part.casefold()) for part in parts], name


def is_clutter(name):
    """Whether `name` is hidden, or left behind by a file manager."""
    return name.startswith(".") or name.lower() in _CLUTTER


def kind_at(file):
    """The `kind_of` the file at the path `file`, "unreadable" where it cannot be read: other files may do."""
    try:
        with file.open("rb") as stream:
            return kind_of(stream.read(HEAD_BYTES))
    except OSError:
        return "unreadable"


def _expanded(text):
    return Path(os.path.expandvars(os.path.expanduser(text)))  # noqa: PTH111 - Path's raises where there is no such user


def _nearest(path):
    """': FOLDER has no 'NAME'', with the last folder of `path` that exists."""
    for part, folder in zip([path, *path.parents], path.parents, strict=False):
        if folder.is_dir():
            return f": {folder.resolve()} has no {part.name!r}"
    return ""
