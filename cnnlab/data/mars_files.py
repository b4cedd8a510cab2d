"""The MSL surface images as published: what they must be, and what their text files and names say.

Stanboli and Wagstaff, DOI 10.5281/zenodo.1049137; Wagstaff et al., "Deep Mars: CNN Classification of Mars Imagery for
the PDS Imaging Atlas", IAAI 2018.

A file name gives the day, camera, sequence and frame. 0830MR0036510000500684E01_DRCL.JPG is sol 0830, camera MR,
sequence 003651, command 000 of it, picture 0500684 of that camera, product E, version 01, and the levels of processing.
Products of one frame (the picture, its thumbnail, ...) differ only after the picture's number: the name up to there is
the frame. Product D is greyscale, the others are in colour.
"""

import contextlib
import dataclasses
import hashlib
import re
from collections.abc import Mapping

import pandas as pd

from cnnlab.data import archives
from cnnlab.data.archives import Limits
from cnnlab.data.files import BadDataError

FOLDER = "calibrated"
SYNSET = "msl_synset_words-indexed.txt"
SPLIT_FILES = {
    "train": "train-calibrated-shuffled.txt",
    "validation": "val-calibrated-shuffled.txt",
    "test": "test-calibrated-shuffled.txt",
}
ZIP_NAME = "msl-images.zip"
# No file of the set comes near these; a picture or an archive that exceeds them is refused unread.
LIMITS = Limits("the Mars images", file=1 << 20, total=1 << 28, members=20_000)
CAMERAS = {"ML": "Mastcam left", "MR": "Mastcam right", "MH": "MAHLI"}
_SCHEME = (
    r"^(?P<frame>(?P<sol>\d{4})(?P<camera>M[LRH])(?P<sequence>\d{6})(?P<command>\d{3})(?P<picture>\d{7}))"
    r"(?P<product>[A-Z])(?P<version>\d\d)_[A-Z]{4}\.JPG$"
)
_CLASS_LINE = re.compile(r"(\d{1,6})\s+(\S.*)")
_IMAGE_LINE = re.compile(rf"{FOLDER}/([^/\\\s]+)\s+(\d{{1,6}})")
# How many of the places that have a problem its message names.
_NAMED = 5


@dataclasses.dataclass(frozen=True)
class MarsSpec:
    """A set in the published layout.

    `images`: how many each split has; `listing_sha256` and `listing_bytes`: hash and length of `Listing.to_bytes`,
    which holds every class, file name, label and split in order; `files_sha256`: `mars.files_hash` of the listed JPEG
    files. Together they decide what is the published set, however it was packed and at whatever size it is decoded: the
    decoded pixels cannot be pinned, since they depend on the JPEG library.
    """

    images: Mapping[str, int]
    listing_sha256: str
    listing_bytes: int
    files_sha256: str
    url: str
    doi: str

    @property
    def total(self):
        """Images of all splits together."""
        return sum(self.images.values())


MSL = MarsSpec(
    images={"train": 3_746, "validation": 1_640, "test": 1_305},
    listing_sha256="0e19725d11457552c59827776e5be0bd1b9f7649cfc8b86a1f50f4ef2cf28e5d",
    listing_bytes=297_633,
    files_sha256="b33c9d61a746431a715cd343554d2a1c66c4729c8d4d4a995235367cdc731183",
    url=f"https://zenodo.org/records/1049137/files/{ZIP_NAME}",
    doi="https://doi.org/10.5281/zenodo.1049137",
)


def counted(what, places):
    """One line on a problem: `what` is wrong, in how many `places` (names of files, lines or classes) and in which."""
    named, rest = ", ".join(map(str, places[:_NAMED])), len(places) - _NAMED
    return f"{what} ({len(places):,}): {named}{f', and {rest:,} more' if rest > 0 else ''}"


@contextlib.contextmanager
def opened_copy(path):
    """The `archives.Copy` at `path`: a zip, the folder it unpacks to, or a folder or archive that holds either.

    Pictures that end in .jpg are found as .JPG, as published. Raises BadDataError if there is no
    copy, or the archive is hostile or not an archive.
    """
    with archives.opened_copy(path, LIMITS, SYNSET, _other_set) as copy:
        yield archives.Copy({_published(name): copy[name] for name in sorted(copy, reverse=True)})


def _published(name):
    """The name of a picture with the extension that it has in the published set."""
    return re.sub(r"\.jpe?g$", ".JPG", name, flags=re.IGNORECASE)


def _other_set(names):
    """What to say of a set that has the files `names` but no SYNSET, or None."""
    names = " ".join(names)
    if version := re.search(r"(?:data-set|train-set|val-set|test-set)-v(\d[\d.]*\d|\d)", names):
        return f"this is version {version[1]} of the data set; version 1 is needed, {MSL.doi}"
    if re.search(r"map-proj|hirise", names, re.IGNORECASE):
        return f"these are the HiRISE images, taken from orbit; those of Curiosity are needed, {MSL.doi}"
    return None


def parse_names(files):
    """One row for each of `files` (n,), file names without their folder.

    Returns a DataFrame: sol (int64, Martian days since landing), camera (a name of CAMERAS), sequence (6 digits, text),
    frame (22 characters), product (a letter), group (12 characters: sol, camera and sequence; pictures taken together,
    the unit for resampling). A name in another scheme has missing values throughout, and sol -1.
    """
    parts = pd.Series(files, dtype="str").str.extract(_SCHEME)
    return pd.DataFrame(
        {
            "sol": parts["sol"].fillna("-1").astype("int64"),
            "camera": parts["camera"].map(CAMERAS),
            "sequence": parts["sequence"],
            "frame": parts["frame"],
            "product": parts["product"],
            "group": parts["sol"] + parts["camera"] + parts["sequence"],
        }
    )


@dataclasses.dataclass(frozen=True)
class Listing:
    """`classes`: published class id to name, whether it has images or not; `rows`: a DataFrame with
    the columns split, file, class_id, in published order, train before validation before test."""

    classes: dict[int, str]
    rows: pd.DataFrame

    @property
    def used_ids(self):
        """The published ids that have images, ascending: the one at position k is label k."""
        return sorted(set(self.rows["class_id"]) & set(self.classes))

    @property
    def class_names(self):
        """Names of the labels 0, 1, ...: a tuple."""
        return tuple(self.classes[number] for number in self.used_ids)

    def metadata(self):
        """What is known about each image, one row per image, indexed 0, 1, ... in the order of `rows`.

        Columns: split, file, class_id (published, with gaps), label (0, 1, ... without), and those of `parse_names`.
        """
        label = self.rows["class_id"].map({number: label for label, number in enumerate(self.used_ids)})
        return pd.concat([self.rows.assign(label=label), parse_names(self.rows["file"])], axis=1)

    def to_bytes(self):
        """Classes and rows as text in one form, whatever the files' line endings and spaces were."""
        classes = [f"class\t{number}\t{name}\n" for number, name in sorted(self.classes.items())]
        images = [f"{row.split}\t{row.file}\t{row.class_id}\n" for row in self.rows.itertuples()]
        return "".join(classes + images).encode()

    @classmethod
    def from_bytes(cls, content):
        """The Listing whose `to_bytes` gave `content`."""
        lines = [line.split("\t") for line in bytes(content).decode().splitlines()]
        classes = {int(number): name for kind, number, name in lines if kind == "class"}
        rows = [(split, file, int(number)) for split, file, number in lines if split != "class"]
        return cls(classes, pd.DataFrame(rows, columns=["split", "file", "class_id"]))


def read_listing(copy, spec):
    """(Listing, names of the images whose line is repeated) of an `archives.Copy`; pictures are not read.

    A repeated line counts once. Raises BadDataError, with a line for each problem, for whatever leaves open which
    images belong to which split or class, and if something is missing or differs from `spec`.
    """
    problems, texts = [], {}
    for name in (SYNSET, *SPLIT_FILES.values()):
        try:
            texts[name] = copy.read(name).decode("utf-8", errors="replace")
        except BadDataError as error:
            problems.append(("text files that are missing or unreadable", [f"{name} {error}"]))
            texts[name] = ""
    classes, class_problems = _read_classes(texts[SYNSET])
    rows = []
    for split, name in SPLIT_FILES.items():
        wrong = []
        for number, line in _lines(texts[name]):
            if match := _IMAGE_LINE.fullmatch(line):
                rows.append((split, _published(match[1]), int(match[2])))
            else:
                wrong.append(f"line {number} {line[:60]!r}")
        problems.append((f"{name}: lines that are not '{FOLDER}/NAME.JPG class'", wrong))
    table = pd.DataFrame(rows, columns=["split", "file", "class_id"]).astype({"class_id": "int64"})
    repeated = table.duplicated()
    listing = Listing(classes, table[~repeated].reset_index(drop=True))
    problems += class_problems + _contradictions(listing, copy, spec)
    lines = [counted(what, places) for what, places in problems if places]
    if not lines and hashlib.sha256(listing.to_bytes()).hexdigest() != spec.listing_sha256:
        where = ["a name, a class, or the order"]
        lines = [counted("the text files differ from the published ones", where)]
    if lines:
        raise BadDataError("\n".join(lines))
    return listing, list(table.loc[repeated, "file"])


def _read_classes(text):
    """({class id: name}, [(what is wrong, [place])]) from the text of SYNSET."""
    classes, problems = {}, []
    for number, line in _lines(text):
        match = _CLASS_LINE.fullmatch(line)
        if not match:
            problems.append((f"{SYNSET}: a line that is not 'number name'", [f"line {number} {line[:60]!r}"]))
            continue
        class_id, name = int(match[1]), " ".join(match[2].split())
        if class_id in classes or name in classes.values():
            problems.append((f"{SYNSET}: a repeated class", [f"line {number} {line!r}"]))
        else:
            classes[class_id] = name
    return classes, problems


def _lines(text):
    """[(number from 1, line without surrounding spaces)] for the lines that are not blank."""
    stripped = ((number, line.strip()) for number, line in enumerate(text.splitlines(), start=1))
    return [(number, line) for number, line in stripped if line]


def _contradictions(listing, copy, spec):
    """[(what is wrong, [places])] where the text files contradict themselves, the pictures or `spec`."""
    table = listing.metadata()
    named = table[table["frame"].notna()]
    unknown = table[~table["class_id"].isin(listing.classes.keys())]
    sizes = {split: (table["split"] == split).sum() for split in spec.images}
    return [
        ("names without sol, camera and frame", list(table.loc[table["frame"].isna(), "file"])),
        (f"classes that {SYNSET} does not have", [f"{row.class_id} of {row.file}" for row in unknown.itertuples()]),
        ("images of two classes", _with_two(table, "file", "class_id")),
        ("images in two splits", _with_two(table, "file", "split")),
        ("frames in two splits, which leak from one to the other", _with_two(named, "frame", "split")),
        ("sols in two splits, which the published split keeps apart", _with_two(named, "sol", "split")),
        ("listed images that are missing", [file for file in table["file"] if f"{FOLDER}/{file}" not in copy]),
        (
            "splits of another size than published",
            [f"{name} has {sizes[name]:,}, expected {n:,}" for name, n in spec.images.items() if sizes[name] != n],
        ),
    ]


def _with_two(table, key, value):
    """The `key`s that have more than one `value`, each with its values: 'name (train, test)'."""
    values = table[[key, value]].drop_duplicates()
    several = values[values[key].duplicated(keep=False)]
    return [f"{name} ({', '.join(map(str, group[value]))})" for name, group in several.groupby(key, sort=False)]
