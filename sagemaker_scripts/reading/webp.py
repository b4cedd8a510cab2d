"""A WEBP file as the simplest file of the same, first picture (RFC 9649).

TensorFlow 2.21 corrupts its memory over an animated WEBP; what is written here is never one.
"""

import struct
from collections import namedtuple

from .errors import DamagedError
from .jpeg import orientation_of

LOSSY, LOSSLESS, ALPHA, ANIMATION_FRAME, EXIF = b"VP8 ", b"VP8L", b"ALPH", b"ANMF", b"EXIF"
ALPHA_FLAG = 0x10
FRAME_HEADER = 16
LOSSY_START, LOSSLESS_START = b"\x9d\x01\x2a", 0x2F

Still = namedtuple("Still", "data width height orientation transparent")


def still(data):
    """`Still` of a WEBP file (bytes); raises DamagedError."""
    chunks = _chunks(data[12:])
    orientation = orientation_of(chunks.get(EXIF, b"").removeprefix(b"Exif\0\0"))
    if ANIMATION_FRAME in chunks:
        chunks = _chunks(chunks[ANIMATION_FRAME][FRAME_HEADER:])
    if LOSSLESS in chunks:
        width, height, transparent = _lossless_size(chunks[LOSSLESS])
        return Still(_riff((LOSSLESS, chunks[LOSSLESS])), width, height, orientation, transparent)
    if LOSSY not in chunks:
        raise DamagedError("is damaged: it holds no picture")
    width, height = _lossy_size(chunks[LOSSY])
    if ALPHA not in chunks:
        return Still(_riff((LOSSY, chunks[LOSSY])), width, height, orientation, False)
    if width < 1 or height < 1:
        raise DamagedError("is damaged: it has no size")
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    extended = (b"VP8X", bytes([ALPHA_FLAG, 0, 0, 0]) + size)
    return Still(_riff(extended, (ALPHA, chunks[ALPHA]), (LOSSY, chunks[LOSSY])), width, height, orientation, True)


def _chunks(data):
    """{name: content} of the first chunk of each name."""
    found, position = {}, 0
    while position + 8 <= len(data):
        name, length = struct.unpack_from("<4sI", data, position)
        if position + 8 + length > len(data):
            if LOSSY in found or LOSSLESS in found:
                break
            raise DamagedError("is cut off")
        found.setdefault(name, data[position + 8 : position + 8 + length])
        position += 8 + length + length % 2
    return found


def _riff(*chunks):
    body = b"WEBP" + b"".join(
        struct.pack("<4sI", name, len(content)) + content + b"\0" * (len(content) % 2) for name, content in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _lossy_size(content):
    if content[3:6] != LOSSY_START:
        raise DamagedError("is damaged: its header is wrong")
    width, height = struct.unpack_from("<HH", content, 6)
    return width & 0x3FFF, height & 0x3FFF


def _lossless_size(content):
    """(width, height, whether transparency is used)."""
    if not content or content[0] != LOSSLESS_START:
        raise DamagedError("is damaged: its header is wrong")
    bits = struct.unpack_from("<I", content, 1)[0]
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bool(bits >> 28 & 1)
