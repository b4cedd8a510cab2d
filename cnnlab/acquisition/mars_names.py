"""What a Curiosity image's file name says: when, by which camera, in which sequence, which frame.

For example 0830MR0036510000500684E01_DRCL.JPG is sol 0830, camera MR, sequence 003651, command
000 of it, picture 0500684 of that camera, product E, version 01, and the levels of processing.
Several products of one frame (the picture, its thumbnail, ...) differ in what follows the
picture's number, and so the name up to there is the frame. Product D is greyscale, the others
are in colour.
"""

import pandas as pd

CAMERAS = {"ML": "Mastcam left", "MR": "Mastcam right", "MH": "MAHLI"}
_SCHEME = (
    r"^(?P<frame>(?P<sol>\d{4})(?P<camera>M[LRH])(?P<sequence>\d{6})(?P<command>\d{3})(?P<picture>\d{7}))"
    r"(?P<product>[A-Z])(?P<version>\d\d)_[A-Z]{4}\.JPG$"
)


def parse_names(files):
    """One row for each of `files` (n,), file names without their folder.

    Returns a DataFrame: sol (int64, Martian days since landing), camera (a name of CAMERAS),
    sequence (6 digits, text), frame (22 characters), product (a letter), group (12 characters:
    sol and sequence, of one camera; pictures taken together, the unit for resampling). A name
    of another scheme has missing values throughout, and sol -1.
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
