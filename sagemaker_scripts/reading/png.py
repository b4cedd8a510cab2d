"""What a PNG file says of itself, by a walk over its chunks (W3C PNG, section 5), and BMP files written as PNG."""

import struct
import zlib
from collections import namedtuple

from .errors import DamagedError
from .jpeg import orientation_of

MAGIC = b"\x89PNG\r\n\x1a\n"
COLOUR, PALETTE, GREY_ALPHA, COLOUR_ALPHA = 2, 3, 4, 6
HEADER_LENGTH = 13
# Of BMP: no compression; masks, of which the usual order is read.
PLAIN, MASKS = 0, 3
USUAL_MASKS = (0x00FF0000, 0x0000FF00, 0x000000FF)
BMP_BITS = (1, 4, 8, 24, 32)

# `data`: the file, with its end put where only that was missing.
Scanned = namedtuple("Scanned", "data width height orientation transparent")


def scan(data):
    """`Scanned` of a PNG file (bytes); raises DamagedError.

    Checksums are compared of critical chunks only, as libpng does.
    """
    if not data.startswith(MAGIC):
        if len(data) < len(MAGIC):
            raise DamagedError("is cut off")
        raise DamagedError("is damaged: its line ends were changed on the way (with curl, use --data-binary)")
    position, header, orientation, transparent, pictured = len(MAGIC), None, 1, False, False
    while position < len(data):
        if position + 8 > len(data):
            break
        length, name = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        content = data[position + 8 : position + 8 + length]
        if end > len(data):
            if name == b"IDAT" or not pictured:
                raise DamagedError("is cut off")
            break
        critical = not name[0] & 0x20
        if critical and zlib.crc32(content, zlib.crc32(name)) != struct.unpack_from(">I", data, end - 4)[0]:
            raise DamagedError(f"is damaged: the checksum of its {name.decode('latin-1')!r} part is wrong")
        if header is None:
            if name != b"IHDR" or length != HEADER_LENGTH:
                raise DamagedError("is damaged: it does not begin with its header")
            header = struct.unpack(">IIBBBBB", content)
            transparent = header[3] in (GREY_ALPHA, COLOUR_ALPHA)
        elif name == b"tRNS":
            transparent = True
        elif name == b"eXIf":
            orientation = orientation_of(content.removeprefix(b"Exif\0\0"))
        elif name == b"IDAT":
            pictured = True
        elif name == b"IEND":
            return Scanned(data[:end], *header[:2], orientation, transparent)
        position = end
    if not pictured:
        raise DamagedError("is cut off")
    return Scanned(data[:position] + _chunk(b"IEND", b""), *header[:2], orientation, transparent)


def bmp_size(data):
    """(width, height) of a BMP file (bytes); raises DamagedError, or struct.error where it breaks off."""
    if struct.unpack_from("<I", data, 14)[0] < 40:
        raise DamagedError("is of a rare kind (of OS/2): save it as PNG")
    width, height = struct.unpack_from("<ii", data, 18)
    return width, abs(height)


def from_bmp(data):
    """The same picture as a PNG file: TensorFlow takes a BMP's palette for shades of grey."""
    width, height = bmp_size(data)
    start, header_size = struct.unpack_from("<II", data, 10)
    bits, compression = struct.unpack_from("<HI", data, 28)
    if bits not in BMP_BITS or compression not in (PLAIN, MASKS):
        raise DamagedError(f"is of a rare kind ({bits} bits, compression {compression}): save it as PNG")
    if compression == MASKS and (bits != 32 or struct.unpack_from("<III", data, 54) != USUAL_MASKS):
        raise DamagedError("is of a rare kind (with masks): save it as PNG")
    stride = (width * bits + 31) // 32 * 4
    if start + stride * height > len(data):
        raise DamagedError("is cut off")
    rows = [data[start + stride * row :][:stride] for row in range(height)]
    if struct.unpack_from("<i", data, 22)[0] > 0:
        rows.reverse()
    alpha = compression == MASKS and header_size >= 56 and struct.unpack_from("<I", data, 66)[0] == 0xFF000000
    parts = []
    if bits <= 8:
        colour, depth = PALETTE, bits
        count = struct.unpack_from("<I", data, 46)[0] or 2**bits
        table = data[14 + header_size :][: 4 * min(count, 2**bits)]
        parts = [_chunk(b"PLTE", _swapped(table, 4, 3))]
        rows = [row[: (width * bits + 7) // 8] for row in rows]
    else:
        colour, depth = (COLOUR_ALPHA if alpha else COLOUR), 8
        rows = [_swapped(row[: width * bits // 8], bits // 8, 4 if alpha else 3) for row in rows]
    packed = zlib.compress(b"".join(b"\0" + row for row in rows), 1)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"".join([MAGIC, _chunk(b"IHDR", header), *parts, _chunk(b"IDAT", packed), _chunk(b"IEND", b"")])


def _swapped(values, found, wanted):
    """Blue, green, red and so on, `found` bytes a pixel, as red, green, blue, `wanted` bytes a pixel."""
    out = bytearray(len(values) // found * wanted)
    for to, source in zip(range(wanted), (2, 1, 0, 3)):  # noqa: B905 - older images run a Python without strict=
        out[to::wanted] = values[source::found][: len(values) // found]
    return bytes(out)


def _chunk(name, content):
    return struct.pack(">I4s", len(content), name) + content + struct.pack(">I", zlib.crc32(content, zlib.crc32(name)))
