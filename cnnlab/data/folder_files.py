"""The files in a folder of pictures: their classes and splits, which belong together, and which are held out.

A table has one row per file, with the columns file (relative to the folder), home (the folder of its class, likewise),
class, split (None where no folder gives it), reason (why it cannot be used, "" where it can) and, once it is known,
group.
"""

import contextlib
import csv
import re
import unicodedata
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from cnnlab.data.files import entries, files_below, natural
from cnnlab.data.pictures import joined_groups, near_duplicates

GROUPS_FILE = "groups.csv"
# A class needs this many groups of pictures: one for validation, one for test, and some to learn from.
FEWEST = 5
# One group in this many is held out for test, and as many for validation.
PARTS = 5
# How many divisions are tried to find one that leaves each class on both sides.
_ATTEMPTS = 20
# What the folder of a split may be called, in upper or lower case.
_SPLIT_NAMES = {
    "train": "train", "training": "train", "val": "validation", "valid": "validation", "validation": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
# Where two splits have the same picture, the one that comes first here loses it.
_GIVE_WAY = ("train", "validation", "test")
# How deep to search inside a class's folder.
_LEVELS = 20
# A counter at the end of a name: IMG_0001, scene2 (3), frame-12.
_COUNTER = re.compile(r"[\s_.-]*(\d+|\(\d+\))$")


def find_files(root):
    """(table, class names in natural order, [(file, reason)] for what is in no class's folder or not a file).

    `root`: a Path that holds a folder for each class, or train/ and others that do. The reasons in the table are still
    empty. Raises ValueError if there are no such folders, or one cannot be read.
    """
    with _readable(root):
        homes, rows, names, others = _homes(root), [], {}, []
        for home, split in homes.items():
            for folder in entries(home)[1]:
                names[folder] = printable(unicodedata.normalize("NFC", folder.name))
                # Not through links, which may lead back.
                for file in files_below(folder, _LEVELS, links=False, others=others):
                    rows.append([*(each.relative_to(root).as_posix() for each in (file, folder)), names[folder], split])
        loose = [file for home in {root: None, **homes} for file in entries(home)[0]]
    classes = sorted(set(names.values()), key=natural)
    if len(classes) < 2:
        held = f"one folder, {classes[0]}" if classes else "no folders"
        raise ValueError(f"{root} holds {held}; expected a folder of pictures for each of two or more classes")
    suffixes = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    outside = {file: "lies in no class's folder" for file in loose if file.suffix.lower() in suffixes}
    for other in others:
        outside[other] = "cannot be read" if other.is_dir() else "is not a file, or is a broken link"
    table = pd.DataFrame(rows, columns=["file", "home", "class", "split"]).assign(reason="")
    return table, classes, [(path.relative_to(root).as_posix(), reason) for path, reason in outside.items()]


@contextlib.contextmanager
def _readable(root):
    try:
        yield
    except OSError as error:
        raise ValueError(f"{error.filename or root} cannot be read ({error.strerror or error})") from None


def printable(name):
    """A printable `name`: bytes that are not UTF-8 are written as escapes."""
    return name.encode(errors="backslashreplace").decode()


def innermost(root):
    """The Path `root`, or the folder that it merely wraps, as an unpacked archive often does."""
    with _readable(root):
        while len(folders := entries(root)[1]) == 1 and entries(folders[0])[1]:
            if folders[0].name.lower() in _SPLIT_NAMES:
                break
            root = folders[0]
    return root


def _homes(root):
    """{folder that holds the folders of classes: the split that it is, or None}."""
    splits = {folder: _SPLIT_NAMES.get(folder.name.lower()) for folder in entries(root)[1]}
    holding = {folder: split for folder, split in splits.items() if split and entries(folder)[1]}
    if not holding:
        # A class may be called train, the vehicle: its folder then holds pictures.
        return {root: None}
    if bare := [folder for folder in splits if folder not in holding]:
        raise ValueError(
            f"{bare[0]} lies beside {next(iter(holding)).name}/ and holds no folders of classes; expected "
            "train/, test/ and optionally val/, each with a folder for each class"
        )
    if "train" not in holding.values() or len(set(holding.values())) < len(holding):
        raise ValueError(f"{root} has {', '.join(folder.name for folder in holding)}; expected train/, test/ and val/")
    return holding


def mark_copies(table, digests):
    """Give a reason to all but one of the files with the same bytes, or to all of them if their classes differ.

    `digests`: hashes of the bytes of each file, uint8 (n, 32).
    """
    good = table[table["reason"] == ""]
    content = pd.Series([bytes(digests[row]) for row in good.index], good.index)
    for rows in content.groupby(content).groups.values():
        same = good.loc[rows].sort_values("split", key=lambda split: -split.map(_rank), kind="stable")
        first, *copies = same.index
        if same["class"].nunique() > 1:
            table.loc[rows, "reason"] = f"is in several classes: {' and '.join(sorted(set(same['class'])))}"
        elif copies:
            table.loc[copies, "reason"] = f"is the same file as {same.loc[first, 'file']}"


def _rank(split):
    return _GIVE_WAY.index(split) if split in _GIVE_WAY else 0


def check_classes(table, classes, root):
    """Raise ValueError, with the counts, if a class has too few usable files, in any given split or in all."""
    good = table[table["reason"] == ""]
    for split in [name for name in _GIVE_WAY if (table["split"] == name).any()] or [None]:
        counts = (good if split is None else good[good["split"] == split])["class"].value_counts()
        fewest = 1 if split in ("validation", "test") else FEWEST
        few = [f"{name} ({counts.get(name, 0)})" for name in classes if counts.get(name, 0) < fewest]
        if few:
            where = f"the {split} split of {root}" if split else root
            raise ValueError(
                f"{where}: too few usable pictures of {', '.join(few)}; expected {fewest} or more of each class: "
                "add some, or remove the class"
            )


def find_groups(root, table, path=None):
    """(source of the groups, the group of each file: a Series of text, its own name if it is alone).

    From the CSV `path` with the columns file and group, else groups.csv in `root`, else folders inside the classes'
    folders, else names that differ only in a final number, if each class has several of these groups. Raises ValueError
    for a missing or invalid CSV.
    """
    alone = table["file"]
    file = Path(path).expanduser() if path else root / GROUPS_FILE
    if file.is_file():
        return _groups_in(file, alone)
    if path:
        raise ValueError(f"there is no file {file}; expected a CSV with the columns file and group")
    folders = alone.str.rpartition("/")[0]
    if (folders != table["home"]).any():
        return "the folders inside the classes' folders", folders.where(folders != table["home"], alone)
    stems = alone.map(lambda name: _COUNTER.sub("", name.rsplit("/", 1)[1].rsplit(".", 1)[0]) or name)
    sizes = stems.groupby(table["class"]).value_counts()
    by_class = sizes.groupby(level=0)
    # IMG_0001, IMG_0002, ... form no groups: most of a class would be one.
    if (by_class.size() >= FEWEST).all() and (by_class.max() <= by_class.sum() / 2).all() and (sizes > 1).any():
        source, given = "names that differ only in a final number", table["split"].notna()
        # Only a guess: it is reported, but does not change splits that are given.
        if parted := int((table[given].groupby(stems[given])["split"].nunique() > 1).sum()):
            source += f", {parted:,} of which lie in several of the given splits"
        return source, stems.where(~given, table["split"].astype(str) + " " + stems)
    return "", alone


def _groups_in(path, files):
    try:
        found = pd.read_csv(path, dtype=str, sep=None, engine="python", encoding="utf-8-sig", skipinitialspace=True)
    except (ValueError, csv.Error, OSError) as error:
        raise ValueError(f"{path} is not a CSV ({error}); expected the columns file and group") from None
    found.columns = [str(column).strip().lower() for column in found.columns]
    if not {"file", "group"} <= set(found.columns):
        raise ValueError(f"{path} has the columns {', '.join(found.columns)}; expected file and group")
    found = found.dropna(subset=["file", "group"]).drop_duplicates(["file", "group"])
    if (twice := found["file"].duplicated()).any():
        raise ValueError(f"{path} has {found['file'][twice].iloc[0]} in several groups; expected each file in one")
    group_of = dict(zip(found["file"].str.strip(), found["group"].str.strip(), strict=True))
    # A file may be named with or without its folders.
    groups = files.map(lambda name: group_of.get(name, group_of.get(name.rsplit("/", 1)[-1])))
    if groups.isna().all():
        raise ValueError(f"{path} names none of the pictures; expected names such as {files.iloc[0]}")
    unknown = len(group_of.keys() - set(files) - {name.rsplit("/", 1)[-1] for name in files})
    source = f"{path.name} (lines that name no picture: {unknown:,})" if unknown else path.name
    return source, groups.map(lambda group: f"group {group}", na_action="ignore").fillna(files)


def assign_splits(table, thumbnails, seed=0):
    """Fill in the split of each usable file, and its group as an integer (-1 for the others).

    `table` with the column group; `thumbnails`: as in `pictures.near_duplicates`, one row per file. Near-duplicates
    share a group. A validation or test split that no folder gives is held out by whole groups, one part in PARTS each.
    Raises ValueError if there are too few groups, or one lies in several given splits.
    """
    given = set(table["split"].dropna())
    rows = np.flatnonzero(table["reason"] == "")
    _check_groups(table.iloc[rows])
    groups = np.full(len(table), -1)
    groups[rows] = joined_groups(table["group"].iloc[rows].to_numpy(str), thumbnails[rows])
    table["group"] = groups
    splits = table["split"].to_numpy(object, copy=True)
    for place, name in enumerate(split for split in ("test", "validation") if split not in given):
        left = table.iloc[[row for row in rows if splits[row] == ("train" if given else None)]]
        splits[_held_out(left, PARTS - place, seed, name)] = name
    if not given:
        splits[[row for row in rows if splits[row] is None]] = "train"
    table["split"] = splits


def _check_groups(table):
    first = table.drop_duplicates(["group", "split"])
    parted = first[first["split"].notna() & first.duplicated("group", keep=False)]
    if len(parted):
        group = parted["group"].iloc[0]
        places = ", ".join(parted.loc[parted["group"] == group, "file"])
        raise ValueError(
            f"{group} lies in several of the given splits ({places}); expected all pictures of a group in "
            "one: move them together, or keep only train/ to have whole groups held out"
        )


def leave_out_look_alikes(table, thumbnails):
    """Give a reason to the pictures of given splits that look like one of a later split: train, validation, test.

    `thumbnails`: as in `pictures.near_duplicates`, one row per file.
    """
    ranks = table["split"].map(_rank).to_numpy()
    for rank in range(len(_GIVE_WAY) - 1):
        good = (table["reason"] == "").to_numpy()
        below, above = np.flatnonzero(good & (ranks == rank)), np.flatnonzero(good & (ranks > rank))
        for one, other in near_duplicates(thumbnails[below], thumbnails[above]).T:
            table.loc[below[one], "reason"] = f"looks like {table['file'][above[other]]}"


def _held_out(table, parts, seed, name):
    """Index of one part in `parts` of `table`, in whole groups, with each class on both sides."""
    from sklearn.model_selection import StratifiedGroupKFold  # takes a second, and nothing else here needs it

    counts = table.groupby("class")["group"].nunique()
    advice = f"expected {FEWEST} or more groups of each class: add pictures taken separately, or give test/ and val/"
    if (counts < 2).any():
        few = ", ".join(counts[counts < 2].index)
        raise ValueError(f"all pictures of {few} belong together or look alike, so none is left for {name}; {advice}")
    for attempt in range(_ATTEMPTS):
        folds = StratifiedGroupKFold(min(parts, counts.min()), shuffle=True, random_state=seed + attempt)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of classes with fewer pictures than parts
            kept, held_out = next(folds.split(table, table["class"], table["group"]))
        if all(table["class"].iloc[side].nunique() == len(counts) for side in (kept, held_out)):
            return table.index[held_out]
    raise ValueError(f"no division into groups leaves pictures of each class on both sides of {name}; {advice}")
