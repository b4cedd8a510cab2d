"""Where the data lies on this machine: what a person calls a path, and the files that are there."""

import contextlib
import hashlib
import os
import re
from pathlib import Path

from cnnlab.data.kinds import HEAD_BYTES, BadDataError, kind_of

# How many folders down is looked.
LEVELS = 3
_MOST_FILES = 1_000_000
_CLUTTER = ("__macosx", "@eadir", "thumbs.db", "desktop.ini")
_QUOTES = {'"': '"', "'": "'", "\u201c": "\u201d", "\u2018": "\u2019"}


@contextlib.contextmanager
def reading():
    """Trouble with reading is a fault of the copy; so that any other OSError is one of the cache."""
    try:
        yield
    except OSError as error:
        raise BadDataError(f"it cannot be read ({error.strerror or error})") from None


@reading()
def named_path(path):
    """The absolute Path of the file or folder that a person called `path` (str or Path).

    Understands `~`, and what comes of copying and dragging: quotes and spaces around it, spaces
    behind backslashes. Raises BadDataError where there is no such file or folder.
    """
    text = str(path).strip()
    if _QUOTES.get(text[:1]) == text[-1:] and len(text) > 1:
        text = text[1:-1].strip()
    if not text or "\0" in text:
        raise BadDataError("that is no path of a file or folder")
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
    """A hash (hex) over names, sizes and times of the files at `path`: another one once any of them changes."""
    digest = hashlib.sha256()
    for file in files_below(path):
        facts = file.stat()
        digest.update(f"{file.relative_to(path)}\t{facts.st_size}\t{facts.st_mtime_ns}\n".encode(errors="replace"))
    return digest.hexdigest()


def files_below(path, levels=LEVELS, links=True, others=None):
    """The regular files at `path`: itself, or those down to `levels` folders below it, part2 before part10.

    `links`: whether those that lead to folders are followed; `others`: a list that gets the folders that may not be
    read, and what is neither file nor folder. Raises BadDataError for more files than a data set has.
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
    """(regular files, folders, other things) in `folder`, part2 before part10, without what is hidden or clutter."""
    files, folders, others = [], [], []
    shown = (entry for entry in folder.iterdir() if not is_clutter(entry.name))
    for entry in sorted(shown, key=lambda entry: natural(entry.name)):
        (files if entry.is_file() else folders if entry.is_dir() else others).append(entry)
    return files, folders, others


def natural(name):
    """A key by which part2 comes before part10, whatever the case of the letters."""
    parts = re.split(r"(\d+)", name)
    return [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part.casefold()) for part in parts], name


def is_clutter(name):
    """Whether `name` is one of those that a file manager leaves behind, or is hidden."""
    return name.startswith(".") or name.lower() in _CLUTTER


def kind_at(file):
    """The `kinds.kind_of` the file at the path `file`, "unreadable" where it may not be read: others may do."""
    try:
        with file.open("rb") as stream:
            return kind_of(stream.read(HEAD_BYTES))
    except OSError:
        return "unreadable"


def _expanded(text):
    return Path(os.path.expandvars(os.path.expanduser(text)))  # noqa: PTH111 - Path's raises where there is no such user


def _nearest(path):
    """' (NAME is not in FOLDER)', with the last folder of `path` that exists."""
    for part, folder in zip([path, *path.parents], path.parents, strict=False):
        if folder.is_dir():
            return f": {folder.resolve()} has no {part.name!r}"
    return ""
