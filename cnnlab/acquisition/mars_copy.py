"""A copy of the Mars images on disk: a folder or a zip in the published layout, read and never unpacked.

A member of a zip that climbs out of its folder has nowhere to go; an archive with such a member,
or with a link, is refused all the same, because the published one has none.
"""

import contextlib
import stat
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from cnnlab.acquisition.errors import BadDataError
from cnnlab.acquisition.mars_spec import FOLDER, LARGEST_FILE, LARGEST_ZIP, MOST_FILES, SYNSET, ZIP_NAME


class Copy(NamedTuple):
    """`names`: the files there, relative to the folder of the text files; `read`: a name to its bytes.

    `read` may be called from several threads; it raises BadDataError, whose message goes on
    after the file's name, where the file is missing, too large or damaged.
    """

    names: frozenset[str]
    read: Callable[[str], bytes]


@contextlib.contextmanager
def opened(path):
    """The `Copy` at `path`: a zip, the folder it unpacks to, or a folder that holds either.

    Raises BadDataError where there is none, or the archive is hostile or no archive.
    """
    path = Path(path).expanduser()
    if path.is_file():
        with _opened_zip(path) as copy:
            yield copy
        return
    if not path.is_dir():
        raise BadDataError("there is no such file or folder")
    try:
        folders = [path, *sorted(entry for entry in path.iterdir() if entry.is_dir())]
        home = next((folder for folder in folders if (folder / SYNSET).is_file()), None)
    except OSError as error:
        raise BadDataError(f"it cannot be read ({error.strerror or error})") from None
    if home is not None:
        yield _folder_copy(home)
    elif (path / ZIP_NAME).is_file():
        with _opened_zip(path / ZIP_NAME) as copy:
            yield copy
    else:
        raise BadDataError(f"this folder holds neither {SYNSET} nor {ZIP_NAME}")


def _folder_copy(home):
    def read(name):
        file = home / name
        try:
            _check_size(file.stat().st_size)
            return file.read_bytes()
        except FileNotFoundError:
            raise BadDataError("is missing") from None
        except OSError as error:
            raise BadDataError(f"cannot be read ({error.strerror or error})") from None

    images = home / FOLDER
    inside = images.iterdir() if images.is_dir() else ()
    files = (entry for entry in (*home.iterdir(), *inside) if entry.is_file())
    return Copy(frozenset(file.relative_to(home).as_posix() for file in files), read)


@contextlib.contextmanager
def _opened_zip(path):
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise BadDataError(f"this is no zip archive, or a damaged one ({error})") from None
    with archive:
        members = _checked_members(archive)
        yield Copy(frozenset(members), lambda name: _read_member(archive, members, name))


def _checked_members(archive):
    """Name relative to the folder of the text files, to ZipInfo."""
    infos = [info for info in archive.infolist() if not info.is_dir()]
    if len(infos) > MOST_FILES:
        raise BadDataError(f"holds {len(infos):,} files, far more than the published archive")
    if sum(info.file_size for info in infos) > LARGEST_ZIP:
        raise BadDataError(f"unpacks to more than {LARGEST_ZIP:,} bytes: not the published archive")
    members = {}
    for info in infos:
        _check_member(info)
        if info.filename in members:
            raise BadDataError(f"holds {info.filename} twice")
        members[info.filename] = info
    homes = [PurePosixPath(name).parent for name in members if PurePosixPath(name).name == SYNSET]
    if not homes:
        raise BadDataError(f"this archive holds no {SYNSET}")
    home = min(homes, key=lambda folder: len(folder.parts))
    inside = {name: info for name, info in members.items() if PurePosixPath(name).is_relative_to(home)}
    return {PurePosixPath(name).relative_to(home).as_posix(): info for name, info in inside.items()}


def _check_member(info):
    parts = PurePosixPath(info.filename.replace("\\", "/")).parts
    if not parts or parts[0] == "/" or ".." in parts or ":" in parts[0]:
        raise BadDataError(f"has a member that would land outside its folder ({info.filename!r}): do not trust it")
    if stat.S_ISLNK(info.external_attr >> 16):
        raise BadDataError(f"has a member that is a link ({info.filename!r}): do not trust it")


def _read_member(archive, members, name):
    if name not in members:
        raise BadDataError("is missing")
    # The size that the archive states bounds what zipfile unpacks, and the checksum is compared at its end.
    _check_size(members[name].file_size)
    try:
        return archive.read(members[name])
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise BadDataError(f"cannot be unpacked ({error})") from None


def _check_size(size):
    if size > LARGEST_FILE:
        raise BadDataError(f"has {size:,} bytes, more than any file of the set ({LARGEST_FILE:,})")
