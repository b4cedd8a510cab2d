"""Which image is in which split and class: the published text files, read and examined."""

import dataclasses
import re

import pandas as pd

from cnnlab.acquisition.errors import BadDataError
from cnnlab.acquisition.mars_names import parse_names
from cnnlab.acquisition.mars_spec import FOLDER, SPLIT_FILES, SYNSET
from cnnlab.acquisition.problems import found

_CLASS_LINE = re.compile(r"(\d{1,6})\s+(\S.*)")
_IMAGE_LINE = re.compile(rf"{FOLDER}/([^/\\\s]+)\s+(\d{{1,6}})")


@dataclasses.dataclass(frozen=True)
class Listing:
    """`classes`: published class id to name, whether it has images or not; `rows`: a DataFrame with
    the columns split, file, class_id, in published order, train before validation before test."""

    classes: dict[int, str]
    rows: pd.DataFrame

    @property
    def used_ids(self):
        """The published ids that have images, ascending: position k of it is label k."""
        return sorted(set(self.rows["class_id"]) & set(self.classes))

    @property
    def class_names(self):
        """Names of the labels 0, 1, ...: a tuple."""
        return tuple(self.classes[number] for number in self.used_ids)

    def metadata(self):
        """What is known of each image, one row an image, indexed 0, 1, ... in the order of `rows`.

        Columns: split, file, class_id (published, with gaps), label (0, 1, ... without), and
        those of `mars_names.parse_names`.
        """
        label = self.rows["class_id"].map({number: label for label, number in enumerate(self.used_ids)})
        return pd.concat([self.rows.assign(label=label), parse_names(self.rows["file"])], axis=1)

    def to_bytes(self):
        """Everything above as text of one form, whatever the line ends and spaces of the files were."""
        classes = [f"class\t{number}\t{name}\n" for number, name in sorted(self.classes.items())]
        images = [f"{row.split}\t{row.file}\t{row.class_id}\n" for row in self.rows.itertuples()]
        return "".join(classes + images).encode()

    @classmethod
    def from_bytes(cls, content):
        """The Listing that `to_bytes` gave as `content`."""
        lines = [line.split("\t") for line in bytes(content).decode().splitlines()]
        classes = {int(number): name for kind, number, name in lines if kind == "class"}
        rows = [(split, file, int(number)) for split, file, number in lines if split != "class"]
        return cls(classes, pd.DataFrame(rows, columns=["split", "file", "class_id"]))


def read_listing(read):
    """(Listing, [Problem]) by `read`: name of a text file to its bytes, or BadDataError.

    A line that comes twice counts once. Whatever else is doubtful is left as it is and named
    in a Problem, a fatal one where it leaves open which images belong to which split or class.
    """
    problems, texts = [], {}
    for name in (SYNSET, *SPLIT_FILES.values()):
        try:
            texts[name] = read(name).decode("utf-8", errors="replace")
        except BadDataError as error:
            problems += found("text files that cannot be had", [f"{name} {error}"])
            texts[name] = ""
    classes, class_problems = _read_classes(texts[SYNSET])
    tables = []
    for split, name in SPLIT_FILES.items():
        rows, row_problems = _read_split(texts[name], split, name)
        tables.append(rows)
        problems += row_problems
    rows = pd.concat(tables, ignore_index=True).astype({"class_id": "int64"})
    repeated = rows.duplicated()
    problems += found("lines that come twice, counted once", rows.loc[repeated, "file"], fatal=False)
    listing = Listing(classes, rows[~repeated].reset_index(drop=True))
    return listing, problems + class_problems + _examine(listing)


def oddities(listing, names):
    """[Problem], none of them fatal: what is odd in the published set itself, and so left as it is.

    `names`: those of a `mars_copy.Copy`.
    """
    table = listing.metadata()
    classes = table.groupby("frame")["class_id"].nunique()
    unused = [name for number, name in sorted(listing.classes.items()) if number not in listing.used_ids]
    listed = {f"{FOLDER}/{file}" for file in table["file"]}
    unlisted = sorted(name for name in names - listed if name.startswith(f"{FOLDER}/"))
    return [
        *found("frames whose images have two classes", classes.index[classes > 1], fatal=False),
        *found("classes without an image", unused, fatal=False),
        *found("images in no split", unlisted, fatal=False),
    ]


def _read_classes(text):
    classes, problems = {}, []
    for number, line in _lines(text):
        match = _CLASS_LINE.fullmatch(line)
        if not match:
            problems += found(f"{SYNSET}: a line that is no 'number name'", [f"line {number} {line[:60]!r}"])
            continue
        class_id, name = int(match[1]), " ".join(match[2].split())
        if class_id in classes or name in classes.values():
            problems += found(f"{SYNSET}: a class that comes twice", [f"line {number} {line!r}"])
        else:
            classes[class_id] = name
    return classes, problems


def _read_split(text, split, name):
    rows, wrong = [], []
    for number, line in _lines(text):
        match = _IMAGE_LINE.fullmatch(line)
        if match:
            rows.append((split, match[1], int(match[2])))
        else:
            wrong.append(f"line {number} {line[:60]!r}")
    problems = found(f"{name}: lines that are no '{FOLDER}/NAME.JPG class'", wrong)
    return pd.DataFrame(rows, columns=["split", "file", "class_id"]), problems


def _lines(text):
    """(number from 1, line without spaces around it) of the lines that are not blank."""
    stripped = ((number, line.strip()) for number, line in enumerate(text.splitlines(), start=1))
    return [(number, line) for number, line in stripped if line]


def _examine(listing):
    table = listing.metadata()
    named = table[table["frame"].notna()]
    unknown = table[~table["class_id"].isin(listing.classes.keys())]
    labelled = table[["split", "file", "class_id"]].drop_duplicates()
    return [
        *found("names that say no sol, camera and frame", table.loc[table["frame"].isna(), "file"]),
        *found(
            f"classes that {SYNSET} does not have", [f"{row.class_id} of {row.file}" for row in unknown.itertuples()]
        ),
        *found("images of two classes", _with_two(labelled, "file", "class_id")),
        *found("images in two splits", _with_two(labelled, "file", "split")),
        *found("frames in two splits, which leak from one to the other", _with_two(named, "frame", "split")),
        *found("sols in two splits, which the published split keeps apart", _with_two(named, "sol", "split")),
    ]


def _with_two(table, key, value):
    """The `key`s that have more than one `value`, each with its values: 'name (train, test)'."""
    values = table[[key, value]].drop_duplicates()
    several = values[values[key].duplicated(keep=False)]
    return [f"{name} ({', '.join(map(str, group[value]))})" for name, group in several.groupby(key, sort=False)]
