"""Decode picture files of all common kinds to upright, letterboxed RGB, and find near-duplicates among them."""

import contextlib
import io
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from cnnlab.data.files import BadDataError, refusing
from cnnlab.machine import progress_bar, usable_cores

# Formats that Pillow decodes by itself; for some others it starts programs, or draws.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
LARGEST_PICTURE = 80_000_000
# What turns a picture upright, by its EXIF orientation (EXIF 2.32, tag 274).
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
# Side in pixels of the thumbnails that are compared to find near-duplicates, and their least correlation: above it lie
# pictures saved again, brightened or cropped by a few percent; below it, 999 in 1,000 of CIFAR-10's nearest neighbours.
THUMBNAIL = 16
NEAR_DUPLICATE = 0.95
# How many thumbnails are compared with all others at a time.
_ROWS = 1_024


@contextlib.contextmanager
def opened_picture(data, *kinds):
    """The picture in `data` (bytes), of one of `kinds` ("PNG", "JPEG", ...), with only its header read so far.

    Whatever Pillow raises within the block becomes a BadDataError that names the kind.
    """
    kind = "/".join(kinds)
    with refusing(f"is not a valid {kind} picture"):
        try:
            image = Image.open(io.BytesIO(data), formats=kinds)
        except UnidentifiedImageError:
            raise BadDataError(f"is not a {kind} picture") from None
    with refusing(f"is not a valid {image.format} picture"), image:
        yield image


def check_side(size, largest, hint=""):
    """Raise ValueError unless `size`, the side of images, is a whole number of pixels from 8 to `largest`."""
    if isinstance(size, bool) or int(size) != size or not 8 <= size <= largest:
        raise ValueError(f"size is {size!r}; expected 8 to {largest:,} whole pixels{hint}")


def in_threads(one, count, description, unit, progress=True):
    """[one(row)] for the rows 0 to `count` - 1, computed in threads, with a bar."""
    with ThreadPoolExecutor(usable_cores()) as pool:
        results = pool.map(one, range(count))
        return list(progress_bar(count, description, unit, iterable=results, disable=not progress))


def decode_picture(data, size):
    """(image uint8 (size, size, 3), thumbnail uint8 (THUMBNAIL, THUMBNAIL, 3), (width, height)) of the file `data`.

    `data`: the bytes of a picture; its width and height are in pixels. Upright, as its EXIF data say; greyscale
    repeated in three channels; transparency on white, as in a packed model; of several pictures in a file, the first.
    The image is `letterboxed`, the thumbnail stretched. Raises BadDataError, whose message is worded to follow the
    file's name.
    """
    rgb = _upright_rgb(data)
    thumbnail = rgb.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    return np.asarray(letterboxed(rgb, size)[1]), np.asarray(thumbnail), rgb.size


def letterboxed(rgb, size):
    """(resized, centred) from a Pillow picture in RGB: scaled to fit `size` x `size`, and that centred on black.

    Bicubic with antialiasing.
    """
    longest = max(rgb.size)
    resized = rgb.resize([max(1, round(side * size / longest)) for side in rgb.size], Image.Resampling.BICUBIC)
    canvas = Image.new("RGB", (size, size))
    canvas.paste(resized, ((size - resized.width) // 2, (size - resized.height) // 2))
    return resized, canvas


def joined_groups(groups, thumbnails):
    """(n,) integers from 0: one per group of `groups` (n,), with groups that share near-duplicates merged.

    `thumbnails`: as in `near_duplicates`.
    """
    # Imported here, because nothing else in this package needs them.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    codes = np.unique(groups, return_inverse=True)[1]
    first, second = near_duplicates(thumbnails, thumbnails)
    alike = coo_array((np.ones(len(first), bool), (codes[first], codes[second])), shape=(codes.max() + 1,) * 2)
    return connected_components(alike, directed=False)[1][codes]


def near_duplicates(first, second):
    """(rows of `first`, rows of `second`) of all pairs of near-duplicates, int64 each.

    `first`, `second`: uint8 (n, THUMBNAIL, THUMBNAIL, 3). Near-duplicates correlate by NEAR_DUPLICATE or more, as they
    are or mirrored; a picture of one colour matches none.
    """
    others = _standardised(second).T
    found = [
        np.argwhere(_standardised(view[start : start + _ROWS]) @ others >= NEAR_DUPLICATE) + (start, 0)
        for view in (first, first[:, :, ::-1])
        for start in range(0, len(first), _ROWS)
    ]
    return np.concatenate([np.zeros((0, 2), "int64"), *found]).T


def _standardised(thumbnails):
    """float32 (n, values): rows of length one whose products are correlations, or of zeros for one colour."""
    values = thumbnails.astype("float32")
    # Less the mean of each channel: a shared tint is not a likeness.
    values = (values - values.mean(axis=(1, 2), keepdims=True)).reshape(len(values), math.prod(values.shape[1:]))
    length = np.linalg.norm(values, axis=1, keepdims=True)
    return values / np.where(length < 1, np.inf, length)


def _upright_rgb(data):
    if not data:
        raise BadDataError("is empty")
    if data[4:8] == b"ftyp" and data[8:12] in (b"heic", b"heix", b"hevc", b"mif1", b"msf1"):
        raise BadDataError("is a HEIC picture, as phones take them; save it as JPEG")
    with opened_picture(data, *FORMATS) as image:
        if image.width * image.height > LARGEST_PICTURE:
            raise BadDataError(
                f"has {image.width:,} x {image.height:,} pixels; expected at most {LARGEST_PICTURE:,}: make it smaller"
            )
        image.load()
        return _rgb(_upright(image))


def _upright(image):
    # By EXIF alone, as the packed model does: Pillow's own function would look at XMP too.
    exif = Image.Exif()
    with contextlib.suppress(Exception):  # damaged EXIF data are ignored
        exif.load(image.info.get("exif", b""))
    turn = _TURNS.get(exif.get(ExifTags.Base.Orientation))
    return image if turn is None else image.transpose(turn)


def _rgb(image):
    if image.mode.startswith("I"):
        # 16 bits per pixel, of which the upper eight are kept.
        return Image.fromarray((np.asarray(image).clip(0, 65_535) >> 8).astype("uint8")).convert("RGB")
    if image.mode == "F":
        raise BadDataError("has floating-point numbers for pixels; save it as PNG or JPEG")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")
