"""Files of a data set out of a folder, a tar or a zip archive, which may be broken or hostile.

Nothing is unpacked to disk: a member that climbs out of its folder has nowhere to go. An
archive with such a member, or with a link, is refused all the same, because the published
ones have none.
"""

import contextlib
import gzip
import io
import pickle
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from PIL import Image, UnidentifiedImageError

_GZIP_MAGIC = b"\x1f\x8b"


class BadDataError(ValueError):
    """A file is not what it should be: truncated, altered, of another shape, or hostile."""


class Limits(NamedTuple):
    """What no copy of the set called `title` comes near: bytes of a file, bytes and members of an archive unpacked."""

    title: str
    file: int
    total: int
    members: int


class Place(NamedTuple):
    """Where a copy may be: a folder in the layout of that name, or an archive (`layout` None)."""

    path: Path
    layout: str | None


class Copy(NamedTuple):
    """Files that can be read in any order, from several threads.

    `sizes`: name, relative to the folder of the copy, to bytes; `content`: a name of these to
    the file's bytes, or BadDataError; `limits`: those of the set.
    """

    sizes: Mapping[str, int]
    content: Callable[[str], bytes]
    limits: Limits

    def read(self, name):
        """The bytes of the file `name`.

        Raises BadDataError, whose message goes on after the file's name, where the file is
        missing, too large or damaged.
        """
        if name not in self.sizes:
            raise BadDataError("is missing")
        _check_size("has", self.sizes[name], self.limits)
        return self.content(name)

    def files(self, wanted):
        """Yield (name, bytes) of those files whose name is in `wanted`, one at a time; BadDataError as `read`."""
        for name in wanted:
            if name in self.sizes:
                _check_size(f"holds {name} of", self.sizes[name], self.limits)
                try:
                    content = self.content(name)
                except BadDataError as error:
                    raise BadDataError(f"{name} {error}") from None
                yield name, content


@contextlib.contextmanager
def reading():
    """Trouble with reading is a fault of the copy; so that any other OSError is one of the cache."""
    try:
        yield
    except OSError as error:
        raise BadDataError(f"it cannot be read ({error.strerror or error})") from None


@reading()
def places_at(path, layouts, archives):
    """Every `Place` at `path` (an archive, a folder, or a folder that holds some), loose copies before packed ones.

    `layouts`: name to file names, any of which tells a folder in that layout; `archives`: names
    of archives; both in order of preference. Raises BadDataError where `path` does not exist.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise BadDataError("there is no such file or folder")
    if path.is_file():
        return [Place(path, None)]
    folders = [path, *sorted(entry for entry in path.iterdir() if entry.is_dir())]
    loose = [
        Place(folder, layout)
        for layout, names in layouts.items()
        for folder in folders
        if any((folder / name).is_file() for name in names)
    ]
    return loose + [Place(path / name, None) for name in archives if (path / name).is_file()]


@reading()
def folder_copy(path, limits, inside=()):
    """The `Copy` of the files in the folder `path`, and in those folders in it whose names are in `inside`."""
    folders = [path, *(path / name for name in inside if (path / name).is_dir())]
    files = [entry for folder in folders for entry in folder.iterdir() if entry.is_file()]

    def content(name):
        try:
            return (path / name).read_bytes()
        except OSError as error:
            raise BadDataError(f"cannot be read ({error.strerror or error})") from None

    return Copy({file.relative_to(path).as_posix(): file.stat().st_size for file in files}, content, limits)


@contextlib.contextmanager
def opened_zip(path, limits, mark):
    """The `Copy` in a zip archive, relative to the topmost folder in it that holds a file called `mark`.

    Raises BadDataError for what is no zip archive, for a link or an absolute or climbing name
    anywhere in it, for a name that comes twice, and for more than `limits`.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise BadDataError(f"this is no zip archive, or a damaged one ({error})") from None
    with archive:
        members = _below(mark, _checked_members(archive, limits))

        def content(name):
            # The size that the archive states bounds what zipfile unpacks, and the checksum is compared at its end.
            try:
                return archive.read(members[name])
            except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as error:
                raise BadDataError(f"cannot be unpacked ({error})") from None

        yield Copy({name: info.file_size for name, info in members.items()}, content, limits)


def read_tar(path, wanted, limits):
    """Yield (name, bytes) of the members of a .tar or .tar.gz whose file name is in `wanted`.

    One pass, in the archive's order, one member in memory at a time, because a gzip cannot be
    entered in the middle. Raises BadDataError for what is no tar archive or is cut short, for a
    link, a device, or an absolute or climbing name anywhere in it, for a wanted member that
    comes twice, and for more than `limits`.
    """
    seen = set()
    with _unpacking(path), _opened(path) as stream:
        bounded = _Bounded(stream, limits)
        with tarfile.open(fileobj=bounded, mode="r|", bufsize=1 << 20) as archive:
            for count, member in enumerate(archive, start=1):
                _check_count(count, limits)
                _check_member(member.name, member.isreg() or member.isdir())
                name = PurePosixPath(member.name).name
                if member.isreg() and name in wanted:
                    if name in seen:
                        raise BadDataError(f"holds {name} twice")
                    seen.add(name)
                    _check_size(f"holds {member.name} of", member.size, limits)
                    yield name, archive.extractfile(member).read()


@contextlib.contextmanager
def opened_picture(data, *kinds):
    """The picture in `data` (bytes) of one of `kinds` ("PNG", "JPEG", ...), of which only the header is read so far.

    Whatever Pillow raises within the block becomes a BadDataError that names the kind.
    """
    kind = "/".join(kinds)
    try:
        with Image.open(io.BytesIO(data), formats=kinds) as image:
            kind = image.format
            yield image
    except BadDataError:
        raise
    except UnidentifiedImageError:
        raise BadDataError(f"is no {kind} picture") from None
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error and others
        raise BadDataError(f"is no whole {kind} picture ({error})") from None


def unpickled(stream, known, title, persistent_load=None, encoding="ASCII"):
    """The next object pickled in `stream`, with nothing run but what stands in `known` for the names in it.

    `known`: (module, name) to what is called in its place; `title`: what never asks for other names;
    `persistent_load`: of `pickle.Unpickler`, and BadDataError without it; `encoding` of Python 2's strings. Raises
    BadDataError for another name, and for what is no whole pickle.
    """

    class Restricted(pickle.Unpickler):
        def find_class(self, module, name):
            if (module, name) not in known:
                raise BadDataError(f"is a pickle that asks to run {module}.{name}, which {title} never does: refused")
            return known[module, name]

        def persistent_load(self, identity):
            if persistent_load is None:
                raise BadDataError(f"is a pickle that refers to something outside it, which {title} never does")
            return persistent_load(identity)

    try:
        return Restricted(stream, encoding=encoding).load()
    except BadDataError:
        raise
    except Exception as error:  # the pickle module promises no particular kind for a damaged stream
        raise BadDataError(f"is no whole pickle ({type(error).__name__}: {error})") from None


class _Bounded:
    """A readable stream that refuses to give more than `limits.total` bytes: a small gzip can hold terabytes."""

    def __init__(self, stream, limits):
        self.stream, self.limits, self.given = stream, limits, 0

    def read(self, size):
        data = self.stream.read(min(size, self.limits.total - self.given + 1))
        self.given += len(data)
        _check_total(self.given, self.limits)
        return data


def _opened(path):
    with path.open("rb") as file:
        packed = file.read(2) == _GZIP_MAGIC
    return gzip.open(path) if packed else path.open("rb")


@contextlib.contextmanager
def _unpacking(path):
    """Say in our words what `tarfile` and `gzip` find wrong."""
    try:
        yield
    except EOFError:
        raise BadDataError(f"this archive is cut short, at {path.stat().st_size:,} bytes") from None
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error) as error:
        raise BadDataError(f"this is no .tar.gz archive, or a damaged one ({error})") from None


def _checked_members(archive, limits):
    """Name to ZipInfo of the files in a ZipFile."""
    infos = [info for info in archive.infolist() if not info.is_dir()]
    _check_count(len(infos), limits)
    _check_total(sum(info.file_size for info in infos), limits)
    members = {}
    for info in infos:
        _check_member(info.filename, not stat.S_ISLNK(info.external_attr >> 16))
        if info.filename in members:
            raise BadDataError(f"holds {info.filename} twice")
        members[info.filename] = info
    return members


def _below(mark, members):
    """Those of `members` (by name) in the topmost folder that holds `mark`, by their names relative to it."""
    paths = {PurePosixPath(name): member for name, member in members.items()}
    home = min((path.parent for path in paths if path.name == mark), key=lambda home: len(home.parts), default=None)
    if home is None:
        raise BadDataError(f"this archive holds no {mark}")
    return {path.relative_to(home).as_posix(): paths[path] for path in paths if path.is_relative_to(home)}


def _check_member(name, plain):
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or parts[0] == "/" or ".." in parts or ":" in parts[0]:
        raise BadDataError(f"has a member that would land outside its folder ({name!r}): do not trust this file")
    if not plain:
        raise BadDataError(f"has a member that is a link or a device ({name!r}): do not trust this file")


def _check_size(said, size, limits):
    if size > limits.file:
        raise BadDataError(f"{said} {size:,} bytes, more than any file of {limits.title} ({limits.file:,})")


def _check_total(size, limits):
    if size > limits.total:
        raise BadDataError(f"unpacks to more than {limits.total:,} bytes: not an archive of {limits.title}")


def _check_count(count, limits):
    if count > limits.members:
        raise BadDataError(f"holds more than {limits.members:,} members: not an archive of {limits.title}")
