"""model.tar.gz as SageMaker's TensorFlow Serving image wants it: packed, checked, opened again.

<name>/<digits>/saved_model.pb, variables/     the SavedModel
code/inference.py                              the handlers
code/model_card.json                           input shape, class names, metrics
"""

import contextlib
import gzip
import importlib.util
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from sagemaker_scripts.common import BadArgumentsError, ScriptError

SAVED_MODEL = re.compile(r"([^/]+)/(\d+)/saved_model\.pb")
CODE = ("code/inference.py", "code/model_card.json")
START_SECONDS = 60

# What the container does with code/inference.py before the first request, and one request.
BARE_START = """
import collections, importlib.util, io, json, sys
spec = importlib.util.spec_from_file_location("inference", sys.argv[1])
inference = importlib.util.module_from_spec(spec)
spec.loader.exec_module(inference)
assert hasattr(inference, "input_handler") and hasattr(inference, "output_handler"), "no input_handler, output_handler"
height, width, channels = inference.card()["input_shape"]
body = json.dumps({"image": [[[0] * channels] * width] * height}).encode()
context = collections.namedtuple("Context", "content_length request_content_type")(len(body), "application/json")
json.loads(inference.input_handler(io.BytesIO(body), context))
"""


class ArchiveError(ScriptError):
    """The archive is not one that the container would start with."""


def pack(folder, path):
    """Write all files under `folder` to the gzipped tar `path`: the same files and zlib give the same bytes.

    Members are sorted and carry neither time, owner nor mode of this machine.
    """
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for file in sorted(file for file in Path(folder).rglob("*") if file.is_file()):
            member = tarfile.TarInfo(file.relative_to(folder).as_posix())
            member.size, member.mode = file.stat().st_size, 0o644
            with file.open("rb") as content:
                tar.addfile(member, content)


def check_layout(path):
    """Name of the one SavedModel in the archive; raises ArchiveError where the container would stop at start."""
    try:
        with tarfile.open(path, "r:gz") as tar:
            members = tar.getmembers()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ArchiveError(f"{path} is no whole tar.gz file ({error}); pack it again with package_model.py") from None
    names = {member.name.removeprefix("./") for member in members if member.isfile()}
    models = [match[1] for name in sorted(names) if (match := SAVED_MODEL.fullmatch(name))]
    if len(models) != 1:
        raise ArchiveError(f"{path} holds {len(models)} times <name>/<digits>/saved_model.pb; expected once")
    missing = [name for name in CODE if name not in names]
    if missing:
        raise ArchiveError(f"{path} lacks {', '.join(missing)}; pack it with package_model.py")
    return models[0]


def check_start(folder):
    """Start the handlers of an unpacked archive as a Python that has nothing but its standard library.

    Raises ArchiveError with the last line of what went wrong.
    """
    command = [sys.executable, "-I", "-S", "-c", BARE_START, str(Path(folder) / CODE[0])]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=START_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise ArchiveError(f"code/inference.py did not start within {START_SECONDS} seconds") from None
    if run.returncode:
        lines = run.stderr.strip().splitlines() or [f"exit code {run.returncode}"]
        raise ArchiveError(f"code/inference.py does not start in the container: {lines[-1]}")


@contextlib.contextmanager
def unpacked(path):
    """A folder with the content of the archive, as the container has it in /opt/ml/model; gone afterwards.

    Raises BadArgumentsError where there is no such file, ArchiveError where the layout is wrong.
    """
    if not Path(path).is_file():
        raise BadArgumentsError(f"there is no file {path}; make one with package_model.py")
    check_layout(path)
    folder = tempfile.mkdtemp(prefix="model-")
    try:
        with tarfile.open(path, "r:gz") as tar:
            tar.extractall(folder, filter="data")
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def load_handlers(folder):
    """The module code/inference.py of an unpacked archive, loaded as the container loads it."""
    spec = importlib.util.spec_from_file_location("inference", Path(folder) / CODE[0])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
