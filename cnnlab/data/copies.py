"""A copy of a data set whose files are read in any order, from several threads: a folder, or an archive."""

import contextlib
import zipfile
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import NamedTuple

from cnnlab.data import archives
from cnnlab.data.archives import ARCHIVES, Limits, check_size
from cnnlab.data.files import BadDataError, describe, files_below, kind_at, named_path, reading


class Copy(NamedTuple):
    """`sizes`: name, relative to the folder of the copy, to bytes; `content`: a name of these to
    the file's bytes, or BadDataError; `limits`: those of the set."""

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
        check_size("has", self.sizes[name], self.limits)
        return self.content(name)


@contextlib.contextmanager
def opened_copy(path, limits, mark, other):
    """The `Copy` at `path`: the topmost folder with a file called `mark`, loose or in an archive, or in one within it.

    Folders are looked into three levels down, and before archives, which are known by their
    first bytes. `other(names)`: what the set without `mark` is of which these are the files, or
    None. Raises BadDataError where there is no copy, or it is hostile or damaged.
    """
    path = named_path(path)
    with reading():
        files = files_below(path)
        homes = [file.parent for file in files if file.name == mark and file != path]
        archived = [] if homes else [(file, kind) for file in files if (kind := kind_at(file)) in ARCHIVES]
    if homes:
        yield folder_copy(min(homes, key=lambda folder: len(folder.parts)), limits)
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
    if path.is_file() and not archived:
        troubles.append(f"this {describe(kind_at(path))}")
    elif not archived:
        troubles.append(other(file.as_posix() for file in files) or f"this folder holds no {mark}")
    raise BadDataError("\n".join(troubles))


@contextlib.contextmanager
def _archived_copy(file, kind, limits, mark, other):
    with contextlib.ExitStack() as stack:
        if kind == "zip":
            with archives.in_our_words(kind), reading():
                archive = stack.enter_context(zipfile.ZipFile(file))
            members = {info.filename: info for info in archives.checked_members(archive, limits)}
            home = _home(mark, members)
            if home is not None:
                yield _zip_copy(archive, _below(home, members), limits)
                return
        # What cannot be entered in the middle, a tar or an archive within an archive, is read at once.
        members = {member.name: member.read() for member in archives.members_of(file, kind, limits)}
        home = _home(mark, members)
        if home is None:
            raise BadDataError(other(members) or f"holds no {mark}")
        below = _below(home, members)
        yield Copy({name: len(data) for name, data in below.items()}, below.__getitem__, limits)


def _zip_copy(archive, members, limits):
    @archives.in_our_words("zip")
    def content(name):
        # The size that the archive states bounds what zipfile unpacks, and the checksum is compared at its end.
        return archive.read(members[name])

    return Copy({name: info.file_size for name, info in members.items()}, content, limits)


def _home(mark, members):
    """The topmost folder (PurePosixPath) among `members` (by name) that holds `mark`, or None."""
    homes = (PurePosixPath(name).parent for name in members if PurePosixPath(name).name == mark)
    return min(homes, key=lambda home: len(home.parts), default=None)


def _below(home, members):
    """Those of `members` (by name) in the folder `home`, by their names relative to it."""
    paths = {PurePosixPath(name): member for name, member in members.items()}
    return {path.relative_to(home).as_posix(): member for path, member in paths.items() if path.is_relative_to(home)}


@reading()
def folder_copy(path, limits):
    """The `Copy` of the files in the folder `path`, and in the folders in it."""
    files = {file.relative_to(path).as_posix(): file.stat().st_size for file in files_below(path, levels=1)}

    def content(name):
        try:
            return (path / name).read_bytes()
        except OSError as error:
            raise BadDataError(f"cannot be read ({error.strerror or error})") from None

    return Copy(files, content, limits)
