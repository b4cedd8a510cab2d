"""A few example pictures for the page of serve_local.py, small enough to travel in an archive."""

import io
import re
from pathlib import Path

from sagemaker_scripts.common import BadArgumentsError

MOST = 12
# Longest side in pixels; up to the second, a picture is kept without loss.
LARGEST, LOSSLESS = 320, 64
QUALITY = 85
LONGEST_NAME = 40


def read(paths):
    """{file name: content} of the picture files `paths`, or of those in a folder, in their order.

    Upright, on white, at most LARGEST pixels wide and high, as PNG or JPEG, and without what else
    their files say, such as a place. Raises BadArgumentsError for what is no picture, or too many.
    """
    files = [file for path in map(Path, paths) for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    files = [file for file in files if not file.name.startswith(".")]
    if len(files) > MOST:
        raise BadArgumentsError(f"{len(files)} example pictures; give at most {MOST}")
    found = {}
    for file in files:
        kind, content = _small(file)
        name = re.sub(r"[^A-Za-z0-9]+", "_", file.stem).strip("_")[:LONGEST_NAME] or "picture"
        if f"{name}.{kind}" in found:
            name = f"{name}_{len(found)}"
        found[f"{name}.{kind}"] = content
    return found


def _small(path):
    """("png" or "jpg", content) of a picture file."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as opened:
            picture = ImageOps.exif_transpose(opened).convert("RGBA")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise BadArgumentsError(f"{path} is no example picture that can be read: {error}") from None
    white = Image.new("RGBA", picture.size, "white")
    picture = Image.alpha_composite(white, picture).convert("RGB")
    picture.thumbnail((LARGEST, LARGEST))
    content = io.BytesIO()
    if max(picture.size) <= LOSSLESS:
        picture.save(content, "PNG")
        return "png", content.getvalue()
    picture.save(content, "JPEG", quality=QUALITY)
    return "jpg", content.getvalue()
