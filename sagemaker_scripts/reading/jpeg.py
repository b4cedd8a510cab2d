"""What a JPEG file says of itself, by a walk over its markers (ITU T.81, annex B), and EXIF's orientation."""

import re
import struct
from collections import namedtuple

from .errors import DamagedError

# Start-of-frame markers: the segments that hold the picture's size; and those of them that TensorFlow decodes.
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
DECODED = {0xC0, 0xC1, 0xC2}
PROGRESSIVE = 0xC2
# Markers without a length: restarts, start of image, and TEM.
BARE = frozenset(range(0xD0, 0xD9)) | {0x01}
START_OF_SCAN, END, APP1 = 0xDA, 0xD9, 0xE1
END_OF_IMAGE = b"\xff\xd9"
# What ends coded data: any marker but a restart; FF 00 is a byte of data.
NEXT_MARKER = re.compile(rb"\xff+[\x01-\xcf\xd8-\xfe]")
SEGMENTS = 2000
ORIENTATION = 0x0112
# Of an entry's type in TIFF: byte, short, long.
NUMBERS = {1: "B", 3: "H", 4: "I"}

# `data`: up to its end marker, which is put where it is missing (`unfinished`); `samples`: coefficients a pixel.
Scanned = namedtuple("Scanned", "data width height orientation samples progressive scans unfinished")


def scan(data):
    """`Scanned` of a JPEG file (bytes); raises DamagedError, or struct.error where it breaks off in its header."""
    position, frame, scans, orientation, end = 2, None, 0, None, None
    for _ in range(SEGMENTS):
        # Fill bytes.
        while data[position : position + 2] == b"\xff\xff":
            position += 1
        if position + 2 > len(data):
            break
        if data[position] != 0xFF:
            raise DamagedError("is damaged: no marker where one must be")
        marker, length = data[position + 1], 0
        if marker == END:
            end = position + 2
            break
        if marker not in BARE:
            if position + 4 > len(data):
                break
            length = max(2, struct.unpack_from(">H", data, position + 2)[0])
        segment = data[position + 4 : position + 2 + length]
        if marker in FRAMES and frame is None:
            frame = _frame(marker, segment)
        elif marker == APP1 and orientation is None and segment.startswith(b"Exif\0\0"):
            orientation = orientation_of(segment[6:])
        position += 2 + length
        if marker == START_OF_SCAN:
            scans += 1
            following = NEXT_MARKER.search(data, position)
            position = following.start() if following else len(data)
    else:
        raise DamagedError("is damaged: it has too many segments")
    if frame is None or not scans:
        raise DamagedError("is cut off" if end is None else "is damaged: it holds no picture")
    # Half an end marker goes, a whole one comes.
    whole = data[:end] if end else data[: len(data) - data.endswith(b"\xff")] + END_OF_IMAGE
    return Scanned(whole, *frame[:2], orientation or 1, *frame[2:], scans, end is None)


def orientation_of(tiff):
    """EXIF's orientation, 1 to 8, in a TIFF header (bytes) and its first directory; 1 where it says nothing."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None or len(tiff) < 8:
        return 1
    start = struct.unpack_from(order + "I", tiff, 4)[0]
    if start + 2 > len(tiff):
        return 1
    count = struct.unpack_from(order + "H", tiff, start)[0]
    for position in range(start + 2, min(start + 2 + 12 * count, len(tiff) - 11), 12):
        tag, kind, number = struct.unpack_from(order + "HHI", tiff, position)
        if tag == ORIENTATION and kind in NUMBERS and number == 1:
            value = struct.unpack_from(order + NUMBERS[kind], tiff, position + 8)[0]
            return value if 1 <= value <= 8 else 1
    return 1


def _frame(marker, segment):
    """(width, height, coefficients a pixel, whether progressive) of a start-of-frame segment."""
    precision, height, width, components = struct.unpack_from(">BHHB", segment)
    if marker not in DECODED or precision != 8:
        raise DamagedError(f"is of a rare kind ({precision} bits, SOF{marker - 0xC0}): save it anew")
    factors = [divmod(segment[7 + 3 * i], 16) for i in range(components)]
    largest = max((h for h, _ in factors), default=0) * max((v for _, v in factors), default=0)
    if not largest:
        raise DamagedError("is damaged: its components have no size")
    return width, height, sum(h * v for h, v in factors) / largest, marker == PROGRESSIVE
