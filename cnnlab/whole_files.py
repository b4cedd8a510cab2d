"""Files that appear under their name complete, or not at all."""

import contextlib
import os


@contextlib.contextmanager
def whole_file(path, suffix=""):
    """A path beside `path` (a Path) to write to, which takes its name when the block ends well.

    A killed process leaves at most that partial file, which ends in .partial and `suffix`; a
    block that fails leaves `path` as it was. Raises OSError where the file cannot be.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial{suffix}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
