"""A Mars data set of 22 pictures in the published layout, with every quirk of the real one, written without cnnlab.

It has a class without images (2, "sun"), one that test lacks (1, "hole"), frames that recur as
picture and thumbnail, one frame whose images have two classes, greyscale images, many sizes, and
pictures in no split.
"""

import hashlib
import io
import zipfile

import numpy as np
from PIL import Image

from cnnlab.data.mars_files import MarsSpec

# Nothing listens on port 9 of this machine, so no test can reach the network by mistake.
NOWHERE = "http://127.0.0.1:9/msl-images.zip"
SYNSET = "0       rock\n1       hole\n2       sun\n3       big wheel\n"
CLASS_NAMES = ("rock", "hole", "big wheel")
SPLITS = {
    "train": [
        ("0003ML0000010000000001E01_DRCL.JPG", 0), ("0003ML0000010000000001I01_DRCL.JPG", 0),
        ("0003ML0000010010000002E01_DRCL.JPG", 1), ("0003ML0000010010000002I01_DRCL.JPG", 1),
        ("0003MR0000010000000001C00_DRCL.JPG", 3), ("0003MR0000020000000002D01_DRCL.JPG", 0),
        ("0004MH0000010000000003E01_DRCL.JPG", 0), ("0004MH0000010000000003I01_DRCL.JPG", 3),
        ("0004MH0000010000000004E01_DRCL.JPG", 0), ("0004MH0000010000000005E01_DRCL.JPG", 0),
    ],
    "validation": [
        ("0010MH0000030000000006E01_DRCL.JPG", 3), ("0010MH0000030000000006I01_DRCL.JPG", 3),
        ("0010MH0000030000000007E01_DRCL.JPG", 1), ("0011ML0000040000000008E01_DRCL.JPG", 0),
    ],
    "test": [
        ("0020MH0000010000000009E01_DRCL.JPG", 3), ("0020MH0000010000000009I01_DRCL.JPG", 3),
        ("0020ML0000050000000010E01_DRCL.JPG", 0), ("0021ML0000060000000011E01_DRCL.JPG", 0),
        ("0022MR0000070000000012E01_DRCL.JPG", 3), ("0023MR0000080000000013E01_DRCL.JPG", 0),
    ],
}  # fmt: skip
UNLISTED = ("0005ML0000090000000014E01_DRCL.JPG", "0012ML0000090000000015E01_DRCL.JPG")
SPLIT_FILES = {
    "train": "train-calibrated-shuffled.txt",
    "validation": "val-calibrated-shuffled.txt",
    "test": "test-calibrated-shuffled.txt",
}
SIZES = ((32, 24), (32, 32), (20, 30), (31, 31), (48, 16))


def picture(number, grey=False):
    """The bytes of a JPEG file whose colour and size follow from `number`: dark on the left, bright on the right."""
    width, height = SIZES[number % len(SIZES)]
    pixels = np.zeros((height, width, 3), "uint8")
    pixels[:, width // 2 :] = (200, 100 + 5 * number, 60)
    file = io.BytesIO()
    Image.fromarray(pixels).convert("L" if grey else "RGB").save(file, "JPEG", quality=95)
    return file.getvalue()


def files():
    """{path within the data set: content in bytes}."""
    names = [name for rows in SPLITS.values() for name, _ in rows] + list(UNLISTED)
    content = {f"calibrated/{name}": picture(number, name[22] == "D") for number, name in enumerate(names)}
    for split, rows in SPLITS.items():
        content[SPLIT_FILES[split]] = "".join(f"calibrated/{name} {label}\n" for name, label in rows).encode()
    return {**content, "msl_synset_words-indexed.txt": SYNSET.encode(), "README.txt": b"A data set.\n"}


FILES = files()


def _spec():
    classes = "class\t0\trock\nclass\t1\thole\nclass\t2\tsun\nclass\t3\tbig wheel\n"
    rows = [(split, name, label) for split, images in SPLITS.items() for name, label in images]
    listing = (classes + "".join(f"{split}\t{name}\t{label}\n" for split, name, label in rows)).encode()
    hashes = [f"{name}\t{hashlib.sha256(FILES[f'calibrated/{name}']).hexdigest()}\n" for _, name, _ in rows]
    return MarsSpec(
        images={split: len(images) for split, images in SPLITS.items()},
        listing_sha256=hashlib.sha256(listing).hexdigest(),
        listing_bytes=len(listing),
        files_sha256=hashlib.sha256("".join(hashes).encode()).hexdigest(),
        url=NOWHERE,
        doi="https://doi.org/10.5281/zenodo.1049137",
    )


SPEC = _spec()


def write_folder(parent, content=FILES):
    """Write the data set as a folder under `parent`; return its path."""
    folder = parent / "msl-images"
    for name, data in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def write_zip(parent, content=FILES, extra=()):
    """Write the data set as msl-images.zip in `parent`, with the `extra` (ZipInfo, bytes); return its path."""
    parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(parent / "msl-images.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(f"msl-images/{name}", data)
        for member, data in extra:
            archive.writestr(member, data)
    return parent / "msl-images.zip"
