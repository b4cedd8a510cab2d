"""The files at a path: in a folder, in an archive, in an archive within it; whichever may be broken or hostile.

Nothing is unpacked to disk: a member that climbs out of its folder has nowhere to go. An
archive with such a member, or with a link, is refused all the same, because the published
ones have none. What is an archive is told by its first bytes.
"""

import bz2
import contextlib
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from cnnlab.data.files import HEAD_BYTES, BadDataError, files_below, is_clutter, kind_at, kind_of, reading

PACKED = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}
ARCHIVES = {"zip", "tar", *PACKED}
# What tarfile says where a file ends too early.
_ENDED = ("unexpected end of data", "empty header", "truncated header")
# How many archives deep is looked.
LEVELS = 3


class Limits(NamedTuple):
    """What no copy of the set called `title` comes near: bytes of a file, bytes and members of an archive unpacked."""

    title: str
    file: int
    total: int
    members: int


class Member(NamedTuple):
    """A file that is no archive.

    `name`: its path below what was named, archives counting as folders; `kind`: of `files`;
    `size` in bytes, None where a packed file does not say; `read()`: its bytes, before the next
    member is asked for, or BadDataError.
    """

    name: str
    kind: str
    size: int | None
    read: Callable[[], bytes]


def groups(path, limits):
    """Yield (name, iterator of Members) of what lies at `path`: loose files together, then each archive.

    An iterator raises BadDataError for an archive that is broken or hostile, with a message that
    goes on after its name.
    """
    loose, archives = [], []
    with reading():
        for file in files_below(path):
            kind = kind_at(file)
            name = file.name if file == path else file.relative_to(path).as_posix()
            (archives if kind in ARCHIVES else loose).append((name, kind, file))
    if loose:
        yield "", (_of_folder(name, kind, file, limits) for name, kind, file in loose)
    for name, kind, file in archives:
        yield name, members_of(file, kind, limits, name)


def _of_folder(name, kind, file, limits):
    with reading():
        size = file.stat().st_size

    @reading()
    def read():
        check_size("has", size, limits)
        return file.read_bytes()

    return Member(name, kind, size, read)


def members_of(file, kind, limits, name=""):
    """Yield the Members of the archive at the Path `file`, which is of `kind`; `name` is put before theirs."""
    with reading(), file.open("rb") as stream:
        yield from _unpacked(name, kind, stream, _Budget(limits), 1)


def _unpacked(name, kind, stream, budget, level):
    """Yield the Members of an archive of `kind` in `stream`, and of archives in it."""
    with in_our_words(kind):
        if kind == "zip":
            yield from _of_zip(name, stream, budget, level)
        elif kind == "tar":
            yield from _of_tar(name, stream, budget, level)
        else:
            content = _Bounded(PACKED[kind](stream), budget, level)
            head = content.read(HEAD_BYTES)
            content.pushed_back = head
            if kind_of(head) == "tar":
                yield from _of_tar(name, content, budget, level)
            else:
                yield from _member(f"{name}/{Path(name).stem}", head, None, content, budget, level)


def _member(name, head, size, stream, budget, level):
    """Yield what the file in `stream` is, which begins with `head`: a Member, or those in it where it is an archive."""
    kind = kind_of(head)

    @in_our_words(kind)
    def read():
        if size is not None:
            check_size("has", size, budget.limits)
        return stream.read(budget.limits.total + 1 if size is None else size)

    if kind in ARCHIVES and level < LEVELS:
        yield from _unpacked(name, kind, io.BytesIO(read()), budget, level + 1)
    else:
        yield Member(name, kind, size, read)


def _of_zip(name, stream, budget, level):
    with zipfile.ZipFile(stream) as archive:
        infos = checked_members(archive, budget.limits)
        budget.count(len(infos))
        for info in infos:
            # The size that the archive states bounds what zipfile unpacks, and the checksum is compared at its end.
            with archive.open(info) as file:
                content = _Bounded(file, budget, level)
                head = content.read(HEAD_BYTES)
                content.pushed_back = head
                yield from _member(f"{name}/{info.filename}", head, info.file_size, content, budget, level)


def _of_tar(name, stream, budget, level):
    if not isinstance(stream, _Bounded):
        stream = _Bounded(stream, budget, level)
    seen = set()
    # One pass, in the archive's order, because a gzip cannot be entered in the middle.
    with tarfile.open(fileobj=stream, mode="r|", bufsize=1 << 20) as archive:
        for info in archive:
            budget.count(1)
            check_member(info.name, info.isreg() or info.isdir())
            if not info.isreg() or any(map(is_clutter, PurePosixPath(info.name).parts)):
                continue
            if info.name in seen:
                raise BadDataError(f"holds {info.name} twice")
            seen.add(info.name)
            content = _Rest(archive.extractfile(info))
            content.pushed_back = head = content.read(HEAD_BYTES)
            yield from _member(f"{name}/{info.name}", head, info.size, content, budget, level)


class _Rest:
    """A readable stream whose first bytes were looked at, and pushed back."""

    def __init__(self, stream):
        self.stream, self.pushed_back = stream, b""

    def read(self, size):
        given, self.pushed_back = self.pushed_back[:size], self.pushed_back[size:]
        return given + self.next(size - len(given)) if len(given) < size else given

    def next(self, size):
        return self.stream.read(size)


class _Bounded(_Rest):
    """One that refuses to give more than the limits: a small gzip can hold terabytes."""

    def __init__(self, stream, budget, level):
        super().__init__(stream)
        self.budget, self.level = budget, level

    def next(self, size):
        data = self.stream.read(min(size, self.budget.left(self.level) + 1))
        self.budget.spend(len(data), self.level)
        return data


class _Budget:
    """What an archive and those within it may take together: bytes for each level of packing, and members."""

    def __init__(self, limits):
        self.limits, self.spent, self.members = limits, Counter(), 0

    def left(self, level):
        return self.limits.total - self.spent[level]

    def spend(self, size, level):
        self.spent[level] += size
        if self.spent[level] > self.limits.total:
            raise BadDataError(
                f"unpacks to more than {self.limits.total:,} bytes: not an archive of {self.limits.title}"
            )

    def count(self, members):
        self.members += members
        if self.members > self.limits.members:
            raise BadDataError(
                f"holds more than {self.limits.members:,} members: not an archive of {self.limits.title}"
            )


@contextlib.contextmanager
def in_our_words(kind):
    """Say in our words what the libraries find wrong with an archive or packed file of `kind`."""
    try:
        yield
    except (EOFError, tarfile.ReadError) as error:
        ended = isinstance(error, EOFError) or str(error) in _ENDED
        said = "is cut short: copy or download it anew" if ended else f"is a damaged {kind} archive ({error})"
        raise BadDataError(said) from None
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        zlib.error,
        lzma.LZMAError,
        NotImplementedError,
        RuntimeError,
    ) as error:
        if kind == "zip" and "not a zip file" in str(error):
            raise BadDataError("is a zip archive that is cut short: its end is missing") from None
        raise BadDataError(f"is a damaged {kind} archive ({error})") from None
    except OSError as error:
        raise BadDataError(f"is a damaged {kind} archive, or cannot be read ({error.strerror or error})") from None


def checked_members(archive, limits):
    """[ZipInfo] of the files in a ZipFile, hidden ones left out; BadDataError where it is hostile or holds too many."""
    infos = [info for info in archive.infolist() if not info.is_dir()]
    _Budget(limits).count(len(infos))
    seen = set()
    for info in infos:
        check_member(info.filename, not stat.S_ISLNK(info.external_attr >> 16))
        if info.filename in seen:
            raise BadDataError(f"holds {info.filename} twice")
        seen.add(info.filename)
    return [info for info in infos if not any(map(is_clutter, PurePosixPath(info.filename).parts))]


def check_member(name, plain):
    """Raise BadDataError for a member that would land outside its folder, or is not `plain`: a link or a device."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or parts[0] == "/" or ".." in parts or ":" in parts[0]:
        raise BadDataError(f"has a member that would land outside its folder ({name!r}): do not trust this file")
    if not plain:
        raise BadDataError(f"has a member that is a link or a device ({name!r}): do not trust this file")


def check_size(said, size, limits):
    """Raise BadDataError for a file of `size` bytes that is larger than any of the set."""
    if size > limits.file:
        raise BadDataError(f"{said} {size:,} bytes, more than any file of {limits.title} ({limits.file:,})")
