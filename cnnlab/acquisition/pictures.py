"""One picture out of untrusted bytes."""

import contextlib
import io

from PIL import Image, UnidentifiedImageError

from cnnlab.acquisition.errors import BadDataError


@contextlib.contextmanager
def opened(data, kind):
    """The picture in `data` (bytes) of `kind` ("PNG" or "JPEG"), of which only the header is read so far.

    Whatever Pillow raises within the block becomes a BadDataError that names the kind.
    """
    try:
        with Image.open(io.BytesIO(data), formats=[kind]) as image:
            yield image
    except BadDataError:
        raise
    except UnidentifiedImageError:
        raise BadDataError(f"is no {kind} picture") from None
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error and others
        raise BadDataError(f"is no whole {kind} picture ({error})") from None
