"""A cache of arrays whose hashes nobody can know beforehand, because a library computed them."""

import contextlib
import hashlib
import json

from cnnlab.acquisition.cache import ArrayCache
from cnnlab.acquisition.errors import BadDataError


class DecodedCache(ArrayCache):
    """An ArrayCache that records the hashes of what it was filled with, and of which `origin` it is.

    `origin`: what decides the arrays (content of the source, code that decodes), a flat dict
    that JSON can hold. The source is verified by whoever fills the cache; here a later change
    of the arrays is noticed, and a manifest that is missing, or of another origin, means that
    they are to be made again.
    """

    def __init__(self, root, name, shapes, origin, progress=True):
        super().__init__(root, name, shapes, {}, progress)
        self.origin = origin

    def load(self):
        """As `ArrayCache.load`; BadDataError, too, where it is not known what the arrays should be."""
        if not self.folder.exists():
            raise FileNotFoundError("nothing there yet")
        self.sha256 = self._recorded()
        return super().load()

    @contextlib.contextmanager
    def replacing(self, scratch):
        """As `ArrayCache.replacing`, whatever the content."""
        with super().replacing(scratch) as arrays:
            yield arrays
            self.sha256 = {name: hashlib.sha256(array).hexdigest() for name, array in arrays.items()}

    def _recorded(self):
        try:
            manifest = json.loads((self.folder / "manifest.json").read_text(encoding="utf-8"))
            origin, recorded = manifest["origin"], {name: manifest[name]["sha256"] for name in self.shapes}
        except (OSError, ValueError, KeyError, TypeError):
            raise BadDataError("its manifest.json is missing or damaged") from None
        if origin != self.origin:
            raise BadDataError("it was made from other files, or by another version of the code")
        return recorded

    def _manifest(self, folder):
        return {**super()._manifest(folder), "origin": self.origin}
