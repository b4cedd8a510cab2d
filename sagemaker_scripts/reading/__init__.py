"""Reading a request: bytes and a content type in, images as numbers or picture files out.

This package travels inside model.tar.gz, beside inference.py, into a container without TensorFlow, NumPy or Pillow. It
decodes no picture itself: it works out what a file is and how the SavedModel is to decode it, and refuses files that
the SavedModel could not decode. A body's first bytes decide what it is; its content type counts only after them:

- a picture file: PNG, JPEG, GIF, BMP or WEBP, of which only the first picture is used. See `pictures`;
- an npy file: a uint8 array in C order, (height, width, channels) or (n, ...) of them;
- multipart/form-data: the picture files in it;
- base64 of a picture file, or a data URL;
- JSON, or lines of JSON (application/jsonlines), in the forms listed in `documents`;
- any of these compressed with gzip or zlib.

The scale is always 0..255 and never guessed from the values. Any other request is answered with 400, 413 or 415 and a
sentence that says what was expected.
"""

import json
import re
import zlib

from .documents import Pixels, RequestError, chunks, from_json, from_npy, is_npy
from .pictures import (
    MAX_PICTURE_BYTES,
    Picture,
    check_pictures,
    compression_of,
    fault,
    from_base64,
    is_base64,
    is_picture,
    marked,
    name_of,
    read_picture,
    unreadable,
)

# SageMaker's limit for a real-time request; a larger one would not reach the container.
MAX_BODY_BYTES = 6 * 1024**2
JSON_TYPES = re.compile(r"(application|text)/([\w.-]+\+)?json")
LINES_TYPES = re.compile(r"application/(x-)?(jsonlines|jsonl|ndjson|json-lines)")
IMAGE_TYPES = re.compile(r"image/[\w.+-]+|application/x-image")
NPY_TYPES = ("application/x-npy", "application/npy")
CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")
GZIP_MAGIC, ZLIB_MAGIC = b"\x1f\x8b", (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
KNOWN = (
    "image/png, image/jpeg, image/gif, image/bmp, image/webp, application/x-npy, application/json, "
    "application/jsonlines or multipart/form-data"
)
ALONE = "send the file alone: curl -H 'Content-Type: image/png' --data-binary @picture.png"
FORM = re.compile(rb"\s*--([^\r\n]{1,200})\r\n(?:[^\r\n]+\r\n)*?content-disposition:", re.IGNORECASE)


def decode(body, content_type, shape):
    """Decode a request body (bytes) into `Pixels`, or into a list of `Picture`.

    `content_type`: the header's text, or None; `shape`: the model's (height, width, channels). Raises RequestError: 413
    for a body or a picture that is too large, 415 for an unknown kind, 400 for everything else.
    """
    check_size(len(body), body)
    body = _unpacked(body)
    # Without a content type it is JSON, as in the container's service.
    kind = (content_type or "").split(";")[0].strip().lower() or "application/json"
    if not body:
        raise RequestError(400, f"the body is empty; expected {KNOWN}")
    if is_base64(body):
        return check_pictures([from_base64(body.decode("latin-1"))])
    if is_picture(body):
        return check_pictures([read_picture(body)])
    if is_npy(body):
        return from_npy(body, shape)
    if form := FORM.match(body):
        return check_pictures(_form_pictures(body, form[1]))
    if name := name_of(body):
        raise unreadable(name)
    if name := compression_of(body):
        raise RequestError(415, f"the body is compressed with {name}; send it plain, or with gzip")
    if LINES_TYPES.fullmatch(kind) and not _is_binary(body):
        texts = [line for line in body.splitlines() if line.strip()]
    elif _looks_like_json(body) or (JSON_TYPES.fullmatch(kind) and not _is_binary(body)):
        texts = [body]
    else:
        raise _unknown(body, kind, shape)
    found = from_json(texts, shape)
    return found if isinstance(found, Pixels) else check_pictures([from_base64(text) for text in found])


def check_size(size, start=b""):
    """Raise RequestError 413 for a body of more bytes than accepted; `start`: its first bytes, for better advice."""
    if size <= MAX_BODY_BYTES:
        return
    cure = (
        "make the picture smaller: the model sees it much smaller anyway"
        if is_picture(start)
        else "send fewer images at a time, or uint8 (application/x-npy) or picture files instead of JSON numbers"
    )
    raise RequestError(413, f"the body has more than {MAX_BODY_BYTES:,} bytes; {cure}")


def _unpacked(body):
    """`body`, decompressed if its first bytes say gzip or zlib, up to a bounded size."""
    if not body.startswith((GZIP_MAGIC, *ZLIB_MAGIC)):
        return body
    # A window of 15 bits, plus 32: gzip or zlib, told by the header.
    stream = zlib.decompressobj(47)
    try:
        plain = stream.decompress(body, MAX_BODY_BYTES + 1)
    except zlib.error as error:
        raise RequestError(400, f"the compressed body is damaged ({error}); expected a whole gzip stream") from None
    check_size(len(plain), plain)
    if not stream.eof:
        raise RequestError(400, "the compressed body is cut off; expected a whole gzip stream")
    if stream.unused_data.startswith(GZIP_MAGIC):
        raise RequestError(400, "the body is several gzip streams, one after the other; expected one")
    return plain


def _form_pictures(body, boundary):
    """The picture files among the parts of a form (RFC 7578)."""
    pictures = []
    for part in body.split(b"--" + boundary)[1:]:
        head, _, content = part.partition(b"\r\n\r\n")
        content = content.removesuffix(b"\r\n")
        is_file = b"filename" in head.lower()
        if is_base64(content):
            pictures.append(from_base64(content.decode("latin-1")))
        # A text field may begin like a BMP file.
        elif is_picture(content) and (is_file or _is_binary(content)):
            pictures.append(read_picture(content))
        elif is_file and (name := name_of(content)):
            raise unreadable(name)
    if not pictures:
        raise RequestError(415, f"the form holds no picture file that can be read; {ALONE}")
    return pictures


def _is_binary(body):
    """Whether a body is not text in UTF-8, UTF-16 or UTF-32."""
    if body.startswith((b"\xff\xfe", b"\xfe\xff")):
        return False
    try:
        return bool(CONTROL.search(body)) or not body.decode()
    except UnicodeDecodeError:
        return True


def _looks_like_json(body):
    return body.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[")


def _unknown(body, kind, shape):
    """The RequestError for a body of no known kind."""
    if IMAGE_TYPES.fullmatch(kind):
        return RequestError(400, f"the body is not a picture, although it is called {kind[:80]}; {_found(body)}")
    if kind in NPY_TYPES:
        # Raises an error that says what an npy file should be.
        from_npy(body, shape)
    if kind == "text/csv":
        return RequestError(
            415, f"text/csv does not say how its numbers form rows, columns and channels; expected {KNOWN}"
        )
    if kind.startswith("multipart/"):
        return RequestError(415, f"the body is not multipart/form-data with picture files; {ALONE}")
    return RequestError(415, f"content type is {kind[:80]!r} and {_found(body)}; expected {KNOWN}")


def _found(body):
    """What can be said about a body of no known kind. Brotli has no magic bytes, so it cannot be told from noise."""
    begin = f"the body begins with {json.dumps(body[:8].decode('latin-1'))}"
    return f"{begin}; if it is compressed with brotli, send it plain, or with gzip" if _is_binary(body) else begin
