"""Picture files: what their first bytes say they are, and how the SavedModel is to decode them.

The header gives size, orientation and transparency, which determine the cost of decoding. A picture that would cost
more than MAX_PICTURE_BYTES is refused, and a large JPEG is decoded at a half, a quarter or an eighth of its size. GIF,
BMP and WEBP are first rewritten in a form that TensorFlow decodes correctly and safely.
"""

import base64
import re
import struct
from collections import namedtuple

from .documents import RequestError
from .formats import DamagedError, bmp_as_png, bmp_size, read_gif, read_jpeg, read_png, read_webp

# Memory that decoding all pictures of one request may take.
MAX_PICTURE_BYTES = 320_000_000
# A JPEG is decoded at a reduced size if its pixels would take more than this.
FULL_SIZE_BYTES = 100_000_000
# Bytes per pixel: decoded and turned; with transparency; a WEBP's planes; a GIF's indices.
OPAQUE_BYTES, TRANSPARENT_BYTES, WEBP_BYTES, GIF_BYTES = 6, 12, 16, 8
# Scans of a JPEG file: each further one costs a pass over the whole picture.
MAX_SCANS = 64
# The SavedModel's decoders, by index: opaque, transparent, reduced by 2, 4, 8.
OPAQUE, TRANSPARENT = 0, 1
REDUCED = ((OPAQUE, 1), (2, 2), (3, 4), (4, 8))

MAGIC = (
    (b"\x89PNG", "PNG"), (b"\xff\xd8", "JPEG"), (b"GIF87a", "GIF"), (b"GIF89a", "GIF"), (b"BM", "BMP"),
)  # fmt: skip
# Other files that people send, none of which is decoded here.
OTHERS = (
    (rb"....ftyp(avi[fs]|(mif1|msf1|miaf)(?=.{0,40}avi[fs]))", "AVIF"),
    (rb"....ftyp(hei[cxms]|hev[cxms]|mif1|msf1)", "HEIC"),
    (rb"....ftyp", "a video (MP4 or QuickTime)"),
    (rb"II[\*\+]\x00|MM\x00[\*\+]", "TIFF"),
    (rb"\xff\x0a|\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51", "JPEG 2000"),
    (rb"\x00\x00[\x01\x02]\x00", "an icon (ICO)"),
    (rb"%PDF", "PDF"),
    (rb"%!PS", "PostScript"),
    (rb"8BPS", "a Photoshop file (PSD)"),
    (rb"(\xef\xbb\xbf)?(\s*<svg|\s*<\?xml[^>]*>\s*(<!--.{0,500}?-->\s*)?(<!DOCTYPE svg[^>]*>\s*)?<svg)", "SVG"),
    (rb"(?i)\s*(<!doctype html|<html)", "a web page (HTML)"),
    (rb"P[1-7]\s", "PNM"),
    (rb"\x1a\x45\xdf\xa3|RIFF....AVI ", "a video"),
    (rb"PK\x03\x04", "a zip archive, as npz files are"),
    (rb"\x80[\x02-\x05][\x8c\x95c}\]K]", "a Python pickle"),
    (rb"\x89HDF", "HDF5"),
    (rb".{128}DICM", "DICOM"),
    (rb"\xef\xbf\xbd", "text made of a picture's bytes, which are lost"),
)  # fmt: skip
# First bytes of compressed bodies that are not unpacked here.
COMPRESSED = (
    (b"\x28\xb5\x2f\xfd", "zstd"), (b"\xfd7zXZ\0", "xz"), (b"BZh", "bzip2"), (b"\x04\x22\x4d\x18", "lz4"),
    (b"\x1f\x8b", "gzip more than once"),
)  # fmt: skip
DATA_URL = re.compile(r"data:(image/[\w.+-]+|application/[\w.-]+)?(;[\w=.-]+)*;base64,", re.IGNORECASE)
# How data URLs begin, and base64 of PNG, JPEG, GIF and WEBP.
BASE64_MAGIC = (b"data:", b"iVBORw0KGgo", b"/9j/", b"R0lGODlh", b"R0lGODdh", b"UklGR")
ADVICE = "expected a whole PNG, JPEG, GIF, BMP or WEBP file, as it is on disk"

# One file: `data` as TensorFlow is to decode it; `kind`, what was sent; `orientation`, EXIF's 1 to 8;
# `decoder`, see OPAQUE; `unfinished`, whether a JPEG's end is missing; `work`, bytes that decoding takes.
Picture = namedtuple("Picture", "data kind orientation decoder unfinished work")


def is_picture(body):
    return kind_of(body) is not None


def kind_of(body):
    """ "PNG", "JPEG", "GIF", "BMP", "WEBP", or None."""
    if body[:4] == b"RIFF" and body[8:12] == b"WEBP":
        return "WEBP"
    return next((kind for magic, kind in MAGIC if body.startswith(magic)), None)


def name_of(body):
    """What a body not decoded here is, worded for a sentence; None if unknown."""
    return next((name for pattern, name in OTHERS if re.match(pattern, body[:600], re.DOTALL)), None)


def compression_of(body):
    """What a body not unpacked here is compressed with; None if unknown."""
    return next((name for magic, name in COMPRESSED if body.startswith(magic)), None)


def unreadable(name):
    """The RequestError for a kind of file that is not decoded here."""
    return RequestError(415, f"this is {name}; save the picture as JPEG or PNG and send that")


def is_base64(body):
    """Whether a body (bytes) is the base64 text of a picture file, or a data URL."""
    return body[:100].lstrip().startswith(BASE64_MAGIC)


def from_base64(text):
    """The Picture in a base64 text or data URL; raises RequestError."""
    text = text.strip()
    if re.match(r"https?://", text, re.IGNORECASE):
        raise RequestError(400, "web addresses are not fetched; send the picture itself, as base64 or as the body")
    if url := DATA_URL.match(text[:200]):
        text = text[url.end() :]
    text = re.sub(r"\s+|=+\s*$", "", text).translate(str.maketrans("-_", "+/"))
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise RequestError(400, f"the text is not base64 of a picture file ({text[:20]!r}); {ADVICE}") from None
    if not is_picture(data):
        name = name_of(data)
        raise unreadable(name) if name else RequestError(400, f"the base64 text holds no picture file; {ADVICE}")
    return read_picture(data)


def read_picture(data):
    """The Picture of a file (bytes); raises RequestError: 413 if it is too large, else 400."""
    kind = kind_of(data)
    try:
        return _jpeg(data) if kind == "JPEG" else _still(kind, data)
    except DamagedError as error:
        raise RequestError(400, f"the {kind} {error}; {ADVICE}") from None
    except (struct.error, IndexError):
        raise RequestError(400, f"the {kind} is cut off; {ADVICE}") from None


def check_pictures(pictures):
    """`pictures`, if decoding them together stays within the limit; else raises RequestError 413."""
    work = sum(picture.work for picture in pictures)
    if work > MAX_PICTURE_BYTES:
        raise RequestError(
            413, f"decoding these {len(pictures)} pictures would take {work / 1e6:.0f} MB, "
            f"more than {MAX_PICTURE_BYTES / 1e6:.0f}; send fewer at a time, or smaller ones",
        )  # fmt: skip
    return pictures


def marked(picture):
    """The bytes that the SavedModel takes: three that say how to decode, then the file (see savedmodel.py)."""
    return bytes([picture.orientation, picture.decoder, picture.unfinished]) + picture.data


def fault(picture, text):
    """The RequestError for a picture that TensorFlow could not decode; `text`: its message."""
    if "Unknown image file format" in text:
        return RequestError(
            415, f"this server's TensorFlow does not decode {picture.kind}; save the picture as JPEG or PNG"
        )
    return RequestError(400, f"the {picture.kind} is {'cut off' if picture.unfinished else 'damaged'}; {ADVICE}")


def _jpeg(data):
    scanned = read_jpeg(data)
    if scanned.scans > MAX_SCANS:
        raise RequestError(413, f"the JPEG has more than {MAX_SCANS} scans; save it as a baseline JPEG")
    pixels = _pixels("JPEG", scanned.width, scanned.height)
    # For a picture in several scans, libjpeg keeps all coefficients, 2 bytes each.
    kept = int(2 * scanned.samples * pixels) if scanned.scans > 1 or scanned.progressive else 0
    each = OPAQUE_BYTES * (2 if scanned.unfinished else 1)
    decoder, reduction = next(
        (pair for pair in REDUCED if each * pixels / pair[1] ** 2 <= FULL_SIZE_BYTES), REDUCED[-1]
    )
    work = kept + each * pixels // reduction**2
    _check_work(scanned.width, scanned.height, work)
    return Picture(scanned.data, "JPEG", scanned.orientation, decoder, scanned.unfinished, work)


def _still(kind, data):
    read, each = STILLS[kind]
    found = read(data)
    work = max(each, TRANSPARENT_BYTES * found.transparent) * _pixels(kind, found.width, found.height)
    _check_work(found.width, found.height, work)
    return Picture(found.data, kind, found.orientation, TRANSPARENT if found.transparent else OPAQUE, False, work)


def _bmp(data):
    width, height = bmp_size(data)
    # Before it is rewritten, which has to be bounded too.
    _check_work(width, height, OPAQUE_BYTES * _pixels("BMP", width, height))
    return read_png(bmp_as_png(data))


def _pixels(kind, width, height):
    if width < 1 or height < 1:
        raise RequestError(400, f"the {kind} says it has {width} x {height} pixels; expected at least one")
    return width * height


def _check_work(width, height, work):
    if work > MAX_PICTURE_BYTES:
        raise RequestError(
            413, f"the picture has {width} x {height} pixels: decoding it would take {work / 1e6:.0f} MB, "
            f"more than {MAX_PICTURE_BYTES / 1e6:.0f}; make it smaller",
        )  # fmt: skip


# How each kind is read, and the least that decoding takes, in bytes per pixel.
STILLS = {
    "PNG": (read_png, OPAQUE_BYTES), "BMP": (_bmp, OPAQUE_BYTES), "GIF": (read_gif, GIF_BYTES),
    "WEBP": (read_webp, WEBP_BYTES),
}  # fmt: skip
