"""The first picture of a GIF file as a file of its own (GIF89a specification, sections 17 to 23).

TensorFlow reads all pictures of a GIF before it gives the first, and takes transparent pixels
for black; here the others are left out, and the transparent colour becomes white.
"""

import struct
from collections import namedtuple

from .errors import DamagedError

EXTENSION, PICTURE, TRAILER = 0x21, 0x2C, 0x3B
GRAPHIC_CONTROL = 0xF9
HAS_TABLE = 0x80

Frame = namedtuple("Frame", "data width height")


def first_frame(data):
    """`Frame` of a GIF file (bytes); raises DamagedError, or struct.error or IndexError where it breaks off."""
    flags, background, aspect = struct.unpack_from("<BBB", data, 10)
    table, position = _table(data, 13, flags)
    transparent = None
    while data[position] == EXTENSION:
        if data[position + 1] == GRAPHIC_CONTROL and data[position + 3] & 1:
            transparent = data[position + 6]
        position = _after_blocks(data, position + 2)
    if data[position] != PICTURE:
        raise DamagedError("is damaged: it holds no picture")
    width, height, own_flags = struct.unpack_from("<HHB", data, position + 5)
    own_table, start = _table(data, position + 10, own_flags)
    end = _after_blocks(data, start + 1)
    if transparent is not None:
        # The picture's own colours count where it has any.
        changed = own_table or table
        changed[3 * transparent : 3 * transparent + 3] = b"\xff\xff\xff"[: len(changed[3 * transparent :][:3])]
    screen = b"GIF89a" + struct.pack("<HHBBB", width, height, flags, background, aspect) + table
    picture = struct.pack("<BHHHHB", PICTURE, 0, 0, width, height, own_flags) + own_table
    return Frame(screen + picture + data[start:end] + bytes([TRAILER]), width, height)


def _table(data, position, flags):
    """(colour table, empty where there is none, as a bytearray; the position behind it)."""
    size = 3 * 2 ** (1 + (flags & 7)) if flags & HAS_TABLE else 0
    if position + size > len(data):
        raise DamagedError("is cut off")
    return bytearray(data[position : position + size]), position + size


def _after_blocks(data, position):
    """The position behind a chain of blocks, each led by its length and ended by an empty one."""
    while length := data[position]:
        position += 1 + length
    return position + 1
