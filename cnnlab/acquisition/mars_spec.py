"""What the MSL surface image data set is: its size, its content hashes, and where it is published.

Stanboli and Wagstaff, DOI 10.5281/zenodo.1049137; Wagstaff et al., "Deep Mars: CNN
Classification of Mars Imagery for the PDS Imaging Atlas", IAAI 2018.
"""

import dataclasses
from collections.abc import Mapping

FOLDER = "calibrated"
SYNSET = "msl_synset_words-indexed.txt"
SPLIT_FILES = {
    "train": "train-calibrated-shuffled.txt",
    "validation": "val-calibrated-shuffled.txt",
    "test": "test-calibrated-shuffled.txt",
}
ZIP_NAME = "msl-images.zip"
# No file of the set comes near these; a picture or an archive that exceeds them is refused unread.
LARGEST_FILE = 1 << 20
LARGEST_ZIP = 1 << 28
MOST_FILES = 20_000
LARGEST_SIDE = 2_048


@dataclasses.dataclass(frozen=True)
class MarsSpec:
    """A set in the published layout.

    `images`: how many each split has; `listing_sha256` and `listing_bytes`: hash and length of
    `mars_listing.Listing.to_bytes`, which hold every class, file name, label and split in order;
    `files_sha256`: `mars_images.files_hash` of the listed JPEG files. Together they decide what
    is the published set, however it was packed, and whatever size it is then decoded to: the
    decoded pixels are no one's to pin, since they depend on the JPEG library.
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
