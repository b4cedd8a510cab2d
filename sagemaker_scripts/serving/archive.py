"""Reading a model.tar.gz from anybody: checked before any of it is unpacked or run."""

import contextlib
import gzip
import importlib.util
import json
import re
import tarfile
import tempfile
from pathlib import Path

from sagemaker_scripts.common import BadArgumentsError, ScriptError

SAVED_MODEL = re.compile(r"([^/]+)/(\d+)/saved_model\.pb")
HANDLERS, READING, CARD = "code/inference.py", "code/reading", "code/model_card.json"
EXAMPLES = "code/examples"
EXAMPLE = re.compile(r"\w[\w-]*\.(png|jpg)", re.ASCII)
# What an archive may unpack to: weights hardly compress, while archive bombs expand a thousandfold.
MOST_EXPANSION, SLACK_BYTES = 100, 64 * 1024**2
MOST_MEMBERS = 10_000
NAMING = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip
LONGEST_NAMES = 1024**2
LONGEST_REASON = 200
PACK_AGAIN = "pack it again with package_model.py"


class ArchiveError(ScriptError):
    """The archive is not one that the container would start with."""


class _Bounded:
    """A file object that gives up when an archive unpacks to far more than its own size."""

    def __init__(self, file, limit):
        self._file, self._left = file, limit

    def read(self, size):
        data = self._file.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise tarfile.ReadError(f"it unpacks to more than {MOST_EXPANSION} times its size")
        return data


class _BoundedInfo(tarfile.TarInfo):
    """A member of an archive; one that holds names for another has to be short, as tarfile reads it in one piece."""

    @classmethod
    def frombuf(cls, *arguments):
        found = super().frombuf(*arguments)
        if found.type in NAMING and found.size > LONGEST_NAMES:
            raise tarfile.ReadError(f"it holds {found.size} bytes of names")
        return found


def check_layout(path):
    """Name of the one SavedModel in the archive; raises ArchiveError if the container would fail to start.

    Also if unpacking it could do harm: a path that leaves the folder, a link, a device, or far more
    bytes than the archive has.
    """
    with _opened(path) as tar:
        names = [_checked_name(path, number, member) for number, member in enumerate(tar)]
    models = [match[1] for name in sorted(names) if (match := SAVED_MODEL.fullmatch(name))]
    if len(models) != 1:
        raise ArchiveError(f"{path} holds <name>/<digits>/saved_model.pb {len(models)} times; expected once")
    missing = [name for name in (HANDLERS, CARD) if name not in names]
    if missing:
        raise ArchiveError(f"{path} lacks {', '.join(missing)}; pack it with package_model.py")
    return models[0]


@contextlib.contextmanager
def unpacked(path):
    """A temporary folder with the content of the archive, as the container has it in /opt/ml/model.

    Raises BadArgumentsError if there is no such file, ArchiveError if the layout or the model card
    is wrong.
    """
    if not Path(path).is_file():
        raise BadArgumentsError(f"there is no file {path}; make one with package_model.py")
    check_layout(path)
    with tempfile.TemporaryDirectory(prefix="model-", ignore_cleanup_errors=True) as folder:
        with _opened(path) as tar:
            for member in tar:
                tar.extract(member, folder, filter="data")
        _check_card((Path(folder) / CARD).read_bytes(), path)
        yield Path(folder)


def load_handlers(folder):
    """The module code/inference.py of an unpacked archive, loaded as the container loads it.

    Raises ArchiveError if it does not load.
    """
    spec = importlib.util.spec_from_file_location("inference", Path(folder) / HANDLERS)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    # Whatever a stranger's code does, sys.exit included.
    except (Exception, SystemExit) as error:
        raise ArchiveError(f"{HANDLERS} does not start ({reason(error)}); {PACK_AGAIN}") from None
    return module


def read_card(path):
    """The model card inside the archive `path`: a dict with at least "input_shape" and "class_names"."""
    try:
        with _opened(path) as tar:
            for member in tar:
                if member.isfile() and member.name.removeprefix("./") == CARD:
                    return _check_card(tar.extractfile(member).read(), path)
    except (ArchiveError, OSError) as error:
        raise BadArgumentsError(
            f"{path} holds no {CARD} ({error}); make it with package_model.py MODEL.keras"
        ) from None
    raise BadArgumentsError(f"{path} holds no {CARD}; make it with package_model.py MODEL.keras")


def reason(error):
    """An exception, worded to fit into one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:LONGEST_REASON]}" if lines else type(error).__name__


@contextlib.contextmanager
def _opened(path):
    """The archive as a tarfile.TarFile that is read once, front to back; raises ArchiveError."""
    try:
        limit = SLACK_BYTES + MOST_EXPANSION * Path(path).stat().st_size
        with (
            gzip.open(path) as plain,
            tarfile.open(fileobj=_Bounded(plain, limit), mode="r|", tarinfo=_BoundedInfo) as tar,
        ):
            yield tar
    # A damaged archive raises many kinds of error, zlib.error among them.
    except ScriptError:
        raise
    except Exception as error:
        raise ArchiveError(f"{path} is not a whole tar.gz file ({reason(error)}); {PACK_AGAIN}") from None


def _checked_name(path, number, member):
    """The name of a harmless member of the archive; raises ArchiveError for any other."""
    name = member.name.removeprefix("./")
    if number >= MOST_MEMBERS:
        raise ArchiveError(f"{path} holds more than {MOST_MEMBERS:,} files; {PACK_AGAIN}")
    if not (member.isreg() or member.isdir()) or member.issparse():
        raise ArchiveError(f"{path} holds {name!r}, which is a link or not a plain file; {PACK_AGAIN}")
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ArchiveError(f"{path} holds {name!r}, which leaves the folder; {PACK_AGAIN}")
    return name if member.isreg() else f"{name}/"


def _check_card(content, path):
    """The model card (bytes) as a dict; raises ArchiveError if it lacks what serving needs."""
    try:
        card = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ArchiveError(f"{path} holds a broken {CARD} ({reason(error)}); {PACK_AGAIN}") from None
    wrong = [name for name, fits in CARD_ENTRIES.items() if not (isinstance(card, dict) and fits(card.get(name)))]
    if wrong:
        raise ArchiveError(f"{path} holds a {CARD} with no valid {', '.join(wrong)}; {PACK_AGAIN}")
    return card


def _is_shape(value):
    return isinstance(value, list) and len(value) == 3 and all(type(size) is int and size > 0 for size in value)


def _are_names(value):
    return isinstance(value, list) and len(value) > 1 and all(isinstance(name, str) and name for name in value)


def _are_examples(value):
    return isinstance(value, list) and all(isinstance(name, str) and EXAMPLE.fullmatch(name) for name in value)


CARD_ENTRIES = {
    "input_shape": _is_shape,
    "class_names": lambda value: _are_names(value) and len(set(value)) == len(value),
    # Optional; shown if present.
    "name": lambda value: value is None or isinstance(value, str),
    "metrics": lambda value: value is None or isinstance(value, dict),
    "grad_cam": lambda value: value is None or isinstance(value, dict),
    "examples": lambda value: value is None or _are_examples(value),
}
