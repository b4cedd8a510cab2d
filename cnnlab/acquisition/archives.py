"""Named files out of a folder or a tar archive, which may be broken or hostile.

Nothing is unpacked to disk: a member that climbs out of its folder has nowhere to go. An
archive with such a member, or with a link, is refused all the same, because the published
ones have none.
"""

import contextlib
import gzip
import tarfile
import zlib
from pathlib import PurePosixPath

from cnnlab.acquisition.errors import BadDataError

MOST_MEMBERS = 1_000
_GZIP_MAGIC = b"\x1f\x8b"


def read_folder(folder, wanted, largest):
    """Yield (name, bytes) of those files of `folder` whose name is in `wanted`, one at a time.

    Raises BadDataError for a file of more than `largest` bytes.
    """
    for name in wanted:
        file = folder / name
        if file.is_file():
            _check_size(name, file.stat().st_size, largest)
            yield name, file.read_bytes()


def read_tar(path, wanted, largest, largest_archive):
    """Yield (name, bytes) of the members of a .tar or .tar.gz whose file name is in `wanted`.

    One pass, in the archive's order, one member in memory at a time. Raises BadDataError for
    what is no tar archive or is cut short, for a link, a device, or an absolute or climbing
    name anywhere in it, for a wanted member that comes twice or exceeds `largest` bytes, and
    for an archive that unpacks to more than `largest_archive` bytes.
    """
    seen = set()
    with _unpacking(path), _opened(path) as stream:
        bounded = _Bounded(stream, largest_archive)
        with tarfile.open(fileobj=bounded, mode="r|", bufsize=1 << 20) as archive:
            for count, member in enumerate(archive):
                if count == MOST_MEMBERS:
                    raise BadDataError(f"holds more than {MOST_MEMBERS:,} members: not an archive of CIFAR-10")
                _check_member(member)
                name = PurePosixPath(member.name).name
                if member.isreg() and name in wanted:
                    if name in seen:
                        raise BadDataError(f"holds {name} twice")
                    seen.add(name)
                    _check_size(member.name, member.size, largest)
                    yield name, archive.extractfile(member).read()


class _Bounded:
    """A readable stream that refuses to give more than `limit` bytes: a small gzip can hold terabytes."""

    def __init__(self, stream, limit):
        self.stream, self.limit, self.left = stream, limit, limit

    def read(self, size):
        data = self.stream.read(min(size, self.left + 1))
        self.left -= len(data)
        if self.left < 0:
            raise BadDataError(f"unpacks to more than {self.limit:,} bytes: not an archive of CIFAR-10")
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


def _check_member(member):
    parts = PurePosixPath(member.name.replace("\\", "/")).parts
    if not parts or parts[0] == "/" or ".." in parts or ":" in parts[0]:
        raise BadDataError(f"has a member that would land outside its folder ({member.name!r}): do not trust this file")
    if not (member.isreg() or member.isdir()):
        raise BadDataError(f"has a member that is a link or a device ({member.name!r}): do not trust this file")


def _check_size(name, size, largest):
    if size > largest:
        raise BadDataError(f"holds {name} of {size:,} bytes, more than any file of CIFAR-10 ({largest:,})")
