"""The reader's own pictures, a folder per class, as a Dataset: checked, decoded, cached, split by group.

What cannot be used is listed and left out, never guessed at. Pictures taken together, and near-duplicates, stay on one
side of the split, because a network must be tested on what it has not seen.
"""

import functools
import hashlib
import json
import math
import re
import shutil
import warnings

import numpy as np
import PIL

from cnnlab.data import folder_files
from cnnlab.data.cache import ArrayCache
from cnnlab.data.dataset import LOADERS, SPLITS, Dataset, Split
from cnnlab.data.download import load_or_fill
from cnnlab.data.files import BadDataError, named_path, reading
from cnnlab.data.pictures import THUMBNAIL, check_side, decode_picture, in_threads
from cnnlab.machine import cache_folder
from cnnlab.wording import plural

LARGEST_FOLDER_SIZE = 1_024
# Raise this with every change to what `decode_picture` makes of a file, so that cached images are made again.
DECODING = 2
# Bytes kept of the reason why a file cannot be used.
_REASON_BYTES = 200
# How many of the files left out are printed; metadata.attrs has them all.
_SHOWN = 20


def load_folder(path, size=224, groups=None, cache=None, seed=0, progress=True):
    """Your own pictures as a Dataset: `path` holds a folder per class, or train/ and perhaps test/ and val/ that do.

    `size` of the square images in pixels: letterboxed, upright, RGB (see `pictures.decode_picture`); `groups`: a CSV
    with the columns file and group, for pictures that belong together (default: see `folder_files.find_groups`);
    `cache`: the cache folder, as in `load_cifar10`; `seed` of the split; `progress`: whether to show a bar, and to say
    what was left out and how the rest was split.

    Files that are empty, unreadable or the same as another are left out, and so are pictures of given splits that look
    like one of a later split (see `folder_files.leave_out_look_alikes`). A validation or test split that no folder
    gives is held out by whole groups (see `folder_files.assign_splits`).
    Returns a Dataset, memory-mapped, whose `metadata` has file, label, split and group (an integer) for each row of the
    arrays, and as `attrs["left_out"]` a list of (file, reason). From then on `load` returns it by its name, split with
    any seed, each split made once. Raises ValueError if there is no such folder, fewer than two classes, too few
    pictures of one or a group in several given splits, and DataUnavailableError if the cache cannot be written.
    """
    root = _checked_folder(path, size)
    dataset = _divided(root, size, groups, cache, seed, progress)
    LOADERS[dataset.name] = functools.cache(lambda seed: _divided(root, size, groups, cache, seed, progress=False))
    return dataset


def _divided(root, size, groups, cache, seed, progress):
    """The Dataset of `load_folder` for the folder `root`, a checked Path."""
    table, classes, left_out = folder_files.find_files(root)
    arrays = folder_arrays(root, table["file"], size, cache, progress)
    table["reason"] = [bytes(row).rstrip(b"\0").decode(errors="ignore") for row in arrays["reasons"]]
    folder_files.mark_copies(table, arrays["digests"])
    if table["split"].notna().any():
        folder_files.leave_out_look_alikes(table, arrays["thumbnails"])
    bad, good = table[table["reason"] != ""], (table["reason"] == "").to_numpy()
    left_out += list(zip(bad["file"], bad["reason"], strict=True))
    if progress and left_out:
        _say_left_out(root, left_out)
    folder_files.check_classes(table, classes, root)
    source, table["group"] = folder_files.find_groups(root, table, groups)
    folder_files.assign_splits(table, arrays["thumbnails"], seed)
    table["label"] = table["class"].map(classes.index)
    if progress:
        _say(table[good], source, arrays["sizes"][good].view("<u4"), size)
    metadata = table[["file", "label", "split", "group"]].copy()
    metadata.attrs["left_out"] = left_out
    labels, order = table["label"].to_numpy("int64"), np.random.default_rng(seed).permutation(len(table))
    rows = {name: order[((table["split"] == name).to_numpy() & good)[order]] for name in SPLITS}
    splits = {name: Split(arrays["images"], labels, rows[name]) for name in SPLITS}
    # It becomes part of paths and commands: letters, digits and a few signs only.
    name = "folder-{}-{}".format(re.sub(r"[^\w.-]+", "_", folder_files.printable(root.name)), size)
    content = hashlib.sha256(bytes([DECODING]) + arrays["digests"][good].tobytes()).hexdigest()
    return Dataset(name, tuple(classes), splits, metadata, content)


def _checked_folder(path, size):
    check_side(size, LARGEST_FOLDER_SIZE)
    expected = "expected a folder that holds a folder of pictures for each class"
    try:
        root = named_path(path)
    except BadDataError as error:
        raise ValueError(f"{path}: {error}; {expected}") from None
    if not root.is_dir():
        raise ValueError(f"{root} is a file (an archive has to be unpacked); {expected}")
    return folder_files.innermost(root)


def folder_arrays(root, files, size, cache=None, progress=True):
    """The content of the `files` (names relative to the Path `root`), memory-mapped, one row per file, all uint8.

    {"images": (n, size, size, 3), "thumbnails" and "digests" (SHA-256 of the bytes), "sizes": width and height as
    little-endian 32-bit numbers, "reasons": why a file cannot be used, in UTF-8 padded with zeros}. Cached under a
    name made from the files' names, sizes and modification times.
    """
    looks = [(name, *_look(root / name)) for name in files]
    of_folder = f"folder-{_digest(str(root))}-{size}"
    shapes = {
        "images": (len(files), size, size, 3),
        "thumbnails": (len(files), THUMBNAIL, THUMBNAIL, 3),
        "digests": (len(files), hashlib.sha256().digest_size),
        "sizes": (len(files), 8),
        "reasons": (len(files), _REASON_BYTES),
    }
    name, origin = f"{of_folder}-{_digest(json.dumps(looks))}", {"decoding": DECODING, "pillow": PIL.__version__}
    store = ArrayCache(cache_folder(cache), name, shapes, origin=origin, progress=progress)

    def sources(_scratch):
        return [(f"the folder {root}", lambda arrays: _decode_into(arrays, root, list(files), size, progress))]

    megabytes = round(sum(map(math.prod, shapes.values())) / 1e6) + 1
    advice = ["  - fix what is reported above, and run this again."]
    arrays = load_or_fill(store, f"The pictures in {root}", sources, advice, f"{megabytes:,} MB")
    for former in store.root.glob(f"{of_folder}-{'?' * len(_digest(''))}"):
        if former != store.folder:  # the same folder, as it was before
            shutil.rmtree(former, ignore_errors=True)
    return arrays


def _look(file):
    try:
        return file.stat().st_size, file.stat().st_mtime_ns
    except OSError:  # gone since it was listed; reading it says so
        return ()


def _digest(text):
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:12]


def _decode_into(arrays, root, files, size, progress):
    def one(row):
        try:
            with reading("cannot be read"):
                data = (root / files[row]).read_bytes()
            arrays["digests"][row] = np.frombuffer(hashlib.sha256(data).digest(), "uint8")
            arrays["images"][row], arrays["thumbnails"][row], pixels = decode_picture(data, size)
            arrays["sizes"][row] = np.array(pixels, "<u4").view("uint8")
        except BadDataError as error:
            encoded = " ".join(str(error).split()).encode()[:_REASON_BYTES]
            arrays["reasons"][row, : len(encoded)] = np.frombuffer(encoded, "uint8")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about odd files; what matters is refused and reported
        in_threads(one, len(files), f"pictures to {size}x{size}", "picture", progress)


def _say_left_out(root, left_out):
    shown = [folder_files.printable(f"  {file} {reason}") for file, reason in left_out[:_SHOWN]]
    rest = [f"  and {len(left_out) - _SHOWN:,} more"] if len(left_out) > _SHOWN else []
    are = "is" if len(left_out) == 1 else "are"
    print(f"{plural(len(left_out), 'file')} in {root} {are} left out:", *shown, *rest, sep="\n")


def _say(good, source, pixels, size):
    """`good`: the rows of files that are used; `pixels`: their (width, height), (n, 2)."""
    counts = ", ".join(f"{(good['split'] == name).sum():,} {name}" for name in SPLITS)
    by = f"by {source}; " if source else ""
    print(f"{counts} pictures in {good['group'].nunique():,} groups ({by}near-duplicates share one)")
    kinds = np.unique(pixels, axis=0)
    if len(kinds) > 1:
        least, most = (f"{width:,}x{height:,}" for width, height in kinds[np.argsort(kinds.prod(axis=1))[[0, -1]]])
        smaller = int((pixels.max(axis=1) < size).sum())
        enlarged = f"; {smaller:,} smaller, enlarged" if smaller else ""
        print(f"{len(kinds):,} sizes, {least} to {most} pixels, resized to {size}x{size}, padded with black{enlarged}")
