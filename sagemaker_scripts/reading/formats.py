"""What picture files say about themselves, read part by part; some are rewritten so that TensorFlow can read them.

JPEG: ITU T.81, annex B, and EXIF 2.32; PNG: W3C PNG, section 5; GIF: GIF89a, sections 17 to 23; WEBP: RFC 9649.
"""

import re
import struct
import zlib
from collections import namedtuple

# JPEG.
# Start-of-frame markers, whose segments hold the picture's size; and those that TensorFlow decodes.
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
DECODED = {0xC0, 0xC1, 0xC2}
PROGRESSIVE = 0xC2
# Markers without a length: restarts, start of image, and TEM.
BARE = frozenset(range(0xD0, 0xD9)) | {0x01}
START_OF_SCAN, END, APP1 = 0xDA, 0xD9, 0xE1
END_OF_IMAGE = b"\xff\xd9"
# Any marker but a restart ends coded data; FF 00 is a data byte.
NEXT_MARKER = re.compile(rb"\xff+[\x01-\xcf\xd8-\xfe]")
SEGMENTS = 2000
ORIENTATION = 0x0112
# Types of a TIFF entry: byte, short, long.
NUMBERS = {1: "B", 3: "H", 4: "I"}
# PNG.
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
COLOUR, PALETTE, GREY_ALPHA, COLOUR_ALPHA = 2, 3, 4, 6
HEADER_LENGTH = 13
# BMP compression: none; or masks, of which only the usual order is read.
PLAIN, MASKS = 0, 3
USUAL_MASKS = (0x00FF0000, 0x0000FF00, 0x000000FF)
BMP_BITS = (1, 4, 8, 24, 32)
# GIF.
EXTENSION, PICTURE, TRAILER = 0x21, 0x2C, 0x3B
GRAPHIC_CONTROL = 0xF9
HAS_TABLE = 0x80
# WEBP.
LOSSY, LOSSLESS, ALPHA, ANIMATION_FRAME, EXIF = b"VP8 ", b"VP8L", b"ALPH", b"ANMF", b"EXIF"
ALPHA_FLAG = 0x10
FRAME_HEADER = 16
LOSSY_START, LOSSLESS_START = b"\x9d\x01\x2a", 0x2F

# A file of one picture. `data`: as TensorFlow is to decode it; `orientation`: EXIF's, 1 to 8.
Still = namedtuple("Still", "data width height orientation transparent")
# A JPEG file, with its end marker added if it was missing (`unfinished`); `samples`: coefficients per pixel.
Scanned = namedtuple("Scanned", "data width height orientation samples progressive scans unfinished")


class DamagedError(Exception):
    """A picture file that is cut off or contradicts itself: the text says how, without naming the format."""


def read_jpeg(data):
    """`Scanned` of a JPEG file (bytes); raises DamagedError, or struct.error if its header is cut off."""
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
    # A missing or half end marker becomes a whole one.
    whole = data[:end] if end else data[: len(data) - data.endswith(b"\xff")] + END_OF_IMAGE
    return Scanned(whole, *frame[:2], orientation or 1, *frame[2:], scans, end is None)


def orientation_of(tiff):
    """EXIF's orientation, 1 to 8, from a TIFF header (bytes) and its first directory; 1 if they give none."""
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
    """(width, height, coefficients per pixel, whether progressive) of a start-of-frame segment."""
    precision, height, width, components = struct.unpack_from(">BHHB", segment)
    if marker not in DECODED or precision != 8:
        raise DamagedError(f"is of a rare kind ({precision} bits, SOF{marker - 0xC0}): save it as a baseline JPEG")
    factors = [divmod(segment[7 + 3 * i], 16) for i in range(components)]
    largest = max((h for h, _ in factors), default=0) * max((v for _, v in factors), default=0)
    if not largest:
        raise DamagedError("is damaged: its components have no size")
    return width, height, sum(h * v for h, v in factors) / largest, marker == PROGRESSIVE


def read_png(data):
    """`Still` of a PNG file (bytes), with its end added if only that was missing; raises DamagedError.

    Only the checksums of critical chunks are compared, as in libpng.
    """
    if not data.startswith(PNG_MAGIC):
        if len(data) < len(PNG_MAGIC):
            raise DamagedError("is cut off")
        raise DamagedError("is damaged: its line ends were changed on the way (with curl, use --data-binary)")
    position, header, orientation, transparent, pictured = len(PNG_MAGIC), None, 1, False, False
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
            return Still(data[:end], *header[:2], orientation, transparent)
        position = end
    if not pictured:
        raise DamagedError("is cut off")
    return Still(data[:position] + _png_chunk(b"IEND", b""), *header[:2], orientation, transparent)


def bmp_size(data):
    """(width, height) of a BMP file (bytes); raises DamagedError, or struct.error if it is cut off."""
    if struct.unpack_from("<I", data, 14)[0] < 40:
        raise DamagedError("is of a rare kind (of OS/2): save it as PNG")
    width, height = struct.unpack_from("<ii", data, 18)
    return width, abs(height)


def bmp_as_png(data):
    """The same picture as a PNG file (bytes): TensorFlow mistakes a BMP's palette for shades of grey."""
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
        parts = [_png_chunk(b"PLTE", _swapped(table, 4, 3))]
        rows = [row[: (width * bits + 7) // 8] for row in rows]
    else:
        colour, depth = (COLOUR_ALPHA if alpha else COLOUR), 8
        rows = [_swapped(row[: width * bits // 8], bits // 8, 4 if alpha else 3) for row in rows]
    packed = zlib.compress(b"".join(b"\0" + row for row in rows), 1)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"".join(
        [PNG_MAGIC, _png_chunk(b"IHDR", header), *parts, _png_chunk(b"IDAT", packed), _png_chunk(b"IEND", b"")]
    )


def _swapped(values, found, wanted):
    """BGR or BGRA values, `found` bytes per pixel, as RGB or RGBA, `wanted` bytes per pixel."""
    out = bytearray(len(values) // found * wanted)
    for to, source in zip(range(wanted), (2, 1, 0, 3)):  # noqa: B905 - older images run a Python without strict=
        out[to::wanted] = values[source::found][: len(values) // found]
    return bytes(out)


def _png_chunk(name, content):
    return struct.pack(">I4s", len(content), name) + content + struct.pack(">I", zlib.crc32(content, zlib.crc32(name)))


def read_gif(data):
    """`Still` of a GIF file's first picture; raises DamagedError, or struct.error or IndexError if it is cut off.

    TensorFlow reads all pictures of a GIF before it returns the first, and turns transparent pixels
    black; here the other pictures are dropped, and the transparent colour becomes white.
    """
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
        # The picture's own colour table, if it has one, takes precedence.
        changed = own_table or table
        changed[3 * transparent : 3 * transparent + 3] = b"\xff\xff\xff"[: len(changed[3 * transparent :][:3])]
    screen = b"GIF89a" + struct.pack("<HHBBB", width, height, flags, background, aspect) + table
    picture = struct.pack("<BHHHHB", PICTURE, 0, 0, width, height, own_flags) + own_table
    return Still(screen + picture + data[start:end] + bytes([TRAILER]), width, height, 1, False)


def _table(data, position, flags):
    """(colour table as a bytearray, empty if there is none; the position after it)."""
    size = 3 * 2 ** (1 + (flags & 7)) if flags & HAS_TABLE else 0
    if position + size > len(data):
        raise DamagedError("is cut off")
    return bytearray(data[position : position + size]), position + size


def _after_blocks(data, position):
    """The position after a chain of blocks: each begins with its length, and an empty one ends the chain."""
    while length := data[position]:
        position += 1 + length
    return position + 1


def read_webp(data):
    """`Still` of a WEBP file's first picture; raises DamagedError.

    TensorFlow 2.21 corrupts its memory on an animated WEBP; the file returned here is never animated.
    """
    chunks = _webp_chunks(data[12:])
    orientation = orientation_of(chunks.get(EXIF, b"").removeprefix(b"Exif\0\0"))
    if ANIMATION_FRAME in chunks:
        chunks = _webp_chunks(chunks[ANIMATION_FRAME][FRAME_HEADER:])
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


def _webp_chunks(data):
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
