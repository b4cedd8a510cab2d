"""The files of a copy of a data set: in a folder, an archive or a nested archive; any may be broken or hostile.

`groups` yields everything at a path in sequence; `opened_copy` gives a set whose files can be read in any order. An
archive is recognised by its first bytes. Nothing is unpacked to disk; even so, an archive with a link, or with a member
that would land outside its folder, is refused, because the published ones have none.
"""

import bz2
import contextlib
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from cnnlab.data.files import (
    HEAD_BYTES,
    BadDataError,
    describe,
    files_below,
    is_clutter,
    kind_at,
    kind_of,
    named_path,
    reading,
)  # fmt: skip

PACKED = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}
ARCHIVES = {"zip", "tar", *PACKED}
# What tarfile says of a file that ends too early.
_ENDED = ("unexpected end of data", "empty header", "truncated header")
# How many levels of nested archives are opened.
LEVELS = 3


class Limits(NamedTuple):
    """Far more than a copy of the set called `title` has: bytes of a file, bytes and members of an unpacked archive."""

    title: str
    file: int
    total: int
    members: int


class Member(NamedTuple):
    """A file that is not an archive.

    `name`: its path below what was named, archives counting as folders; `kind`: as in `files.kind_of`, None if not
    examined; `size` in bytes, None where a packed file does not state it; `read()` returns its bytes, or raises
    BadDataError, and must be called before a group is asked for its next member.
    """

    name: str
    kind: str | None
    size: int | None
    read: Callable[[], bytes]


def groups(path, limits):
    """Yield (name, iterator of Members) of what lies at `path`: loose files together, then each archive.

    An iterator raises BadDataError for an archive that is broken or hostile, with a message worded
    to follow its name.
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
        yield name, _members_of(file, kind, limits, name)


class Copy(dict):
    """Names, relative to the folder of the copy, to Members that can be read in any order and from several threads."""

    def read(self, name):
        """The bytes of the file `name`; raises BadDataError, worded to follow the name, if it is missing or bad."""
        if name not in self:
            raise BadDataError("is missing")
        return self[name].read()


@contextlib.contextmanager
def opened_copy(path, limits, mark, other):
    """The `Copy` at `path`: the topmost folder with a file called `mark`, loose, in an archive or in a nested one.

    Folders are searched three levels deep, and before archives. `other(names)`: what to say of a set that has these
    files but no `mark`, or None. Raises BadDataError if there is no copy, or it is hostile or damaged.
    """
    path = named_path(path)
    with reading():
        files = files_below(path)
        home = _topmost(file.parent for file in files if file.name == mark and file != path)
        below = {file.relative_to(home).as_posix(): file for file in files_below(home, levels=1)} if home else {}
        archived = [] if home else [(file, kind) for file in files if (kind := kind_at(file)) in ARCHIVES]
    if home:
        yield Copy({name: _of_folder(name, None, file, limits) for name, file in below.items()})
        return
    troubles = []
    with contextlib.ExitStack() as stack:
        for file, kind in archived:
            try:
                copy = stack.enter_context(_archived_copy(file, kind, limits, mark, other))
            except BadDataError as error:
                troubles.append(f"{file.name} {error}")
            else:
                yield copy
                return
    if archived:
        raise BadDataError("\n".join(troubles))
    if path.is_file():
        raise BadDataError(f"this {describe(kind_at(path))}")
    raise BadDataError(other(file.as_posix() for file in files) or f"this folder holds no {mark}")


@contextlib.contextmanager
def _archived_copy(file, kind, limits, mark, other):
    if kind == "zip":
        with _in_our_words(kind):
            archive = zipfile.ZipFile(file)
        with archive:
            infos = _files_of_zip(archive, _Budget(limits))
            copy = _below_mark(mark, {info.filename: _in_zip(archive, info, limits) for info in infos})
            if copy is not None:
                yield copy
                return
    # A tar or a nested archive cannot be read in any order, so it is read at once.
    whole = {
        each.name: each._replace(read=io.BytesIO(each.read()).getvalue) for each in _members_of(file, kind, limits)
    }
    copy = _below_mark(mark, whole)
    if copy is None:
        raise BadDataError(other(whole) or f"holds no {mark}")
    yield copy


def _in_zip(archive, info, limits):
    @_in_our_words("zip")
    def read():
        check_size("has", info.file_size, limits)
        return archive.read(info)

    return Member(info.filename, None, info.file_size, read)


def _below_mark(mark, members):
    """The Copy of those `members` (by name) in the topmost folder that holds `mark`; None if no folder does."""
    paths = {PurePosixPath(name): member for name, member in members.items()}
    home = _topmost(path.parent for path in paths if path.name == mark)
    if home is None:
        return None
    below = {path: member for path, member in paths.items() if path.is_relative_to(home)}
    return Copy({path.relative_to(home).as_posix(): member for path, member in below.items()})


def _topmost(folders):
    return min(folders, key=lambda folder: len(folder.parts), default=None)


def _of_folder(name, kind, file, limits):
    with reading():
        size = file.stat().st_size

    @reading("cannot be read")
    def read():
        check_size("has", size, limits)
        return file.read_bytes()

    return Member(name, kind, size, read)


def _members_of(file, kind, limits, name=""):
    """Yield the Members of the archive of `kind` at the Path `file`, with `name` put before their names."""
    with reading(), file.open("rb") as stream:
        yield from _unpacked(name, kind, stream, _Budget(limits), 1)


def _unpacked(name, kind, stream, budget, level):
    """Yield the Members of an archive of `kind` in `stream`, and of archives nested in it.

    The size that a zip or tar states for a member bounds what is unpacked; a zip's checksum is verified too.
    """
    with _in_our_words(kind):
        if kind == "zip":
            yield from _of_zip(name, stream, budget, level)
            return
        content = _bounded(stream if kind == "tar" else PACKED[kind](stream), budget, level)
        if _kind_in(content) == "tar":
            yield from _of_tar(name, content, budget, level)
        else:
            yield from _member(f"{name}/{Path(name).stem}", None, content, budget, level)


def _of_zip(name, stream, budget, level):
    with zipfile.ZipFile(stream) as archive:
        for info in _files_of_zip(archive, budget):
            with archive.open(info) as file:
                content = _bounded(file, budget, level)
                yield from _member(f"{name}/{info.filename}", info.file_size, content, budget, level)


def _of_tar(name, stream, budget, level):
    # One pass, in the archive's order, because a gzip cannot be read from the middle.
    with tarfile.open(fileobj=stream, mode="r|", bufsize=1 << 20) as archive:
        for info in _files_of(((info.name, info.isreg(), info.isdir(), info) for info in archive), budget):
            yield from _member(f"{name}/{info.name}", info.size, archive.extractfile(info), budget, level)


def _member(name, size, stream, budget, level):
    """Yield the file in `stream` (an io.BufferedReader) as a Member or, if it is an archive, the Members in it."""
    kind = _kind_in(stream)

    @_in_our_words(kind)
    def read():
        if size is not None:
            check_size("has", size, budget.limits)
        return stream.read(size)

    if kind in ARCHIVES and level < LEVELS:
        yield from _unpacked(name, kind, io.BytesIO(read()), budget, level + 1)
    else:
        yield Member(name, kind, size, read)


def _kind_in(stream):
    """The kind of the file in `stream`, an io.BufferedReader that has not been read from."""
    return kind_of(stream.peek(HEAD_BYTES)[:HEAD_BYTES])


def _bounded(stream, budget, level):
    """An io.BufferedReader over `stream` that reads no further ahead than `kind_of` needs."""
    return io.BufferedReader(_Bounded(stream, budget, level), HEAD_BYTES)


class _Bounded(io.RawIOBase):
    """A stream that refuses to exceed the limits: a small gzip can hold terabytes."""

    def __init__(self, stream, budget, level):
        self.stream, self.budget, self.level = stream, budget, level

    def readable(self):
        return True

    def readinto(self, buffer):
        data = self.stream.read(min(len(buffer), self.budget.left(self.level) + 1))
        self.budget.spend(len(data), self.level)
        buffer[: len(data)] = data
        return len(data)


class _Budget:
    """What an archive and those nested in it may take together: bytes at each level of nesting, and members."""

    def __init__(self, limits):
        self.limits, self.spent, self.members = limits, Counter(), 0

    def left(self, level):
        return self.limits.total - self.spent[level]

    def spend(self, size, level):
        self.spent[level] += size
        if self.left(level) < 0:
            self._refuse(f"unpacks to more than {self.limits.total:,} bytes")

    def count(self):
        self.members += 1
        if self.members > self.limits.members:
            self._refuse(f"holds more than {self.limits.members:,} members")

    def _refuse(self, said):
        raise BadDataError(f"{said}: not an archive of {self.limits.title}")


def _files_of_zip(archive, budget):
    """[ZipInfo] of the files of a ZipFile, all of which are checked before any is read."""
    infos = [info for info in archive.infolist() if not info.is_dir()]
    members = [(info.filename, not stat.S_ISLNK(info.external_attr >> 16), False, info) for info in infos]
    return list(_files_of(members, budget))


def _files_of(members, budget):
    """Yield the `info` of each of `members`, (name, is a file, is a folder, info), that is a file and not hidden.

    Raises BadDataError for too many members, for one that would land outside its folder, for a link or a device, and
    for a repeated name.
    """
    seen = set()
    for name, is_file, is_folder, info in members:
        budget.count()
        path = PurePosixPath(name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or ":" in "".join(path.parts[:1]):
            raise BadDataError(f"has a member that would land outside its folder ({name!r}): do not trust this file")
        if not (is_file or is_folder):
            raise BadDataError(f"has a member that is a link or a device ({name!r}): do not trust this file")
        if is_folder or any(map(is_clutter, PurePosixPath(name).parts)):
            continue
        if name in seen:
            raise BadDataError(f"holds {name} twice")
        seen.add(name)
        yield info


@contextlib.contextmanager
def _in_our_words(kind):
    """Turn what a library finds wrong with an archive or packed file of `kind` into a BadDataError in our words."""
    try:
        yield
    except (BadDataError, MemoryError):
        raise
    except OSError as error:
        raise BadDataError(f"is a damaged {kind} archive, or cannot be read ({error.strerror or error})") from None
    except Exception as error:  # any: a damaged header may say anything
        if isinstance(error, EOFError) or (isinstance(error, tarfile.ReadError) and str(error) in _ENDED):
            raise BadDataError("is cut short: copy or download it again") from None
        if kind == "zip" and "not a zip file" in str(error):
            raise BadDataError("is a zip archive that is cut short: its end is missing") from None
        raise BadDataError(f"is a damaged {kind} archive ({error})") from None


def check_size(said, size, limits):
    """Raise BadDataError for a file of `size` bytes that is larger than any of the set."""
    if size > limits.file:
        raise BadDataError(f"{said} {size:,} bytes, more than any file of {limits.title} ({limits.file:,})")
