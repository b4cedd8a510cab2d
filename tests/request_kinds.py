"""Requests as people send them to the tiny classifier: which are answered, and which are refused in what words."""

import base64
import gzip
import io
import json
import struct
import zlib

import numpy as np
from packed import npy, picture, tiny
from PIL import Image

JSON, NPY, PNG, JPEG = "application/json", "application/x-npy", "image/png", "image/jpeg"
MORE_THAN_A_BODY = 6 * 1024**2 + 1
# An image of 16x16 pixels as JSON numbers.
BROTLI = base64.b64decode("GzAP+J0HdixtiESyPLKyWiRGZ0/KzGw1C0xXnwCBDTgRz0KMgAaEewAEUslIZuClPRmFksHMCwCiUQM=")


def requests_of(image):
    """The same image (height, width, 3) in the plain lossless forms: {name: (content type, body)}."""
    pixels = image.tolist()
    return {
        "instances": (JSON, encoded({"instances": [pixels]})),
        "images": ("application/json; charset=utf-8", encoded({"images": [pixels]})),
        "image": (JSON, encoded({"image": pixels})),
        "floats": (JSON, encoded({"image": image.astype(float).tolist()})),
        "npy": (NPY, npy(image)),
        "npy batch": ("Application/X-Npy", npy(image[None])),
        "png": (PNG, picture(image)),
    }


def lossless_requests():
    """{name: (content type, body, image)}: further forms, each with the image (height, width, 3) that it holds."""
    image = tiny().images[0]
    return {
        name: (*request, image)
        for forms in (_labels(image), _documents(image), _wrappings(image), _formats(image))
        for name, request in forms.items()
    } | _see_through()


def _labels(image):
    """Requests with all kinds of content types, which do not matter: the first bytes do."""
    file = picture(image)
    kinds = (
        "image/jpg", "image/jpeg", "image/pjpeg", "application/x-image", "application/octet-stream", "image/*", "",
        "application/x-www-form-urlencoded", JSON, "text/csv", "text/plain", "nonsense", NPY, "image/PNG; q=1",
    )  # fmt: skip
    others = {
        "npy as nothing": ("application/octet-stream", npy(image)),
        "json as nothing": ("application/octet-stream", encoded([image.tolist()])),
        "json by curl -d": ("application/x-www-form-urlencoded", encoded({"image": image.tolist()})),
        "json as text": ("text/json", encoded({"image": image.tolist()})),
        "json with a mark": (JSON, b"\xef\xbb\xbf" + encoded({"image": image.tolist()})),
    }
    return {f"png as {kind!r}": (kind, file) for kind in kinds} | others


def _documents(image):
    pixels, text = image.tolist(), base64.b64encode(picture(image)).decode()
    url = f"data:image/png;base64,{text}"
    documents = {
        "b64 in instances": {"instances": [{"b64": text}]},
        "b64 by name": {"instances": [{"images": {"b64": text}}]},
        "b64 in inputs": {"inputs": {"b64": text}},
        "b64 in named inputs": {"inputs": {"images": [{"b64": text}]}},
        "b64 alone": {"b64": text},
        "text in instances": {"instances": [text]},
        "text as image": {"image": text},
        "text in lines": {"image": "\n".join(text[i : i + 76] for i in range(0, len(text), 76))},
        "text for addresses": {"image": text.translate(str.maketrans("+/", "-_")).rstrip("=")},
        "data URL": {"image": url},
        "data URL by another name": {"image": url.replace("image/png", "image/jpeg")},
        "data URL with a parameter": {"image": url.replace(";base64", ";name=a.png;base64")},
        "text alone": text,
        "signature_name": {"signature_name": "serving_default", "instances": [pixels]},
        "another signature_name": {"signature_name": "serve_image", "instances": [pixels]},
        "named input": {"instances": [{"input_1": pixels}]},
        "inputs": {"inputs": [pixels]},
        "named inputs": {"inputs": {"pixels": [pixels]}},
        "one in instances": {"instances": pixels},
        "batch as image": {"image": [pixels]},
        "list": [pixels],
        "one image": pixels,
        "list of text": [url],
    }
    return {name: (JSON, encoded(document)) for name, document in documents.items()}


def _wrappings(image):
    file, document = picture(image), encoded({"image": image.tolist()})
    part = b'Content-Disposition: form-data; name="file"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    field = b'--XX\r\nContent-Disposition: form-data; name="note"\r\n\r\nBMW\r\n'
    form = field + b"--XX\r\n" + part + file + b"\r\n--XX--\r\n"
    return {
        "gzip json": (JSON, gzip.compress(document)),
        "gzip png": (PNG, gzip.compress(file)),
        "deflate json": (JSON, zlib.compress(document)),
        "gzip npy": (NPY, gzip.compress(npy(image))),
        "form": ("multipart/form-data; boundary=XX", form),
        "form without a header": ("", form),
        "base64 body": ("image/png", base64.b64encode(file)),
        "data URL body": ("text/plain", b"data:image/png;base64," + base64.b64encode(file)),
        "lines": ("application/jsonlines", document + b"\n\n"),
        "lines by another name": ("application/x-ndjson", encoded(image.tolist())),
        "form without a file's name": (
            "multipart/form-data; boundary=XX",
            b'\r\n--XX\r\nContent-Disposition: form-data; name="image"\r\n\r\n' + file + b"\r\n--XX--\r\n",
        ),
        "base64 body in lines": ("text/plain", b"\n" + base64.encodebytes(file)),
        "json in UTF-16": (JSON, document.decode().encode("utf-16")),
        "json as nonsense": ("application/x-json", document),
    }


def _formats(image):
    pillow = Image.fromarray(image)
    frames = {"save_all": True, "append_images": [pillow.transpose(Image.Transpose.ROTATE_180)], "duration": 100}
    forms = {
        "webp": picture(image, "WEBP", lossless=True),
        "webp animated": picture(image, "WEBP", lossless=True, **frames),
        "bmp": picture(image, "BMP"),
        "bmp with 32 bits": picture(pillow.convert("RGBA"), "BMP"),
        "png animated": picture(image, "PNG", **frames),
        "png without its end": picture(image)[:-12],
        "png with something behind": picture(image) + b"more",
    }
    return {name: ("image/x-any", body) for name, body in forms.items()} | _turned(image)


def _turned(image):
    """PNG and WEBP files that equal `image` once EXIF's orientation is applied."""
    stored = {
        1: image, 2: image[:, ::-1], 3: image[::-1, ::-1], 4: image[::-1], 5: image.transpose(1, 0, 2),
        6: np.rot90(image, 1), 7: np.rot90(image, 2).transpose(1, 0, 2), 8: np.rot90(image, -1),
    }  # fmt: skip
    return {
        f"{form} turned {number}": (
            f"image/{form}",
            picture(np.ascontiguousarray(pixels), form, exif=orientation(number), lossless=True),
        )
        for number, pixels in stored.items()
        for form in ("PNG", "WEBP")
    }


def orientation(number, order="<"):
    """An EXIF block that holds an orientation and one other entry; `order`: the byte order, as in struct."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entries = struct.pack(order + "HHIHH", 0x0112, 3, 1, number, 0) + struct.pack(order + "HHIHH", 0x0128, 3, 1, 2, 0)
    return b"Exif\0\0" + mark + struct.pack(order + "IH", 8, 2) + entries + bytes(4)


def _see_through():
    """Pictures with transparency, each with the image that Pillow makes of it on white."""
    generator = np.random.default_rng(3)
    hidden = generator.integers(0, 256, (16, 16, 4), "uint8")
    colours = Image.fromarray(tiny().images[1]).quantize(8)
    grey = Image.fromarray(np.ascontiguousarray(hidden[..., 2:]), "LA")
    files = {
        "png half transparent": picture(hidden),
        "webp half transparent": picture(hidden, "WEBP", lossless=True, exact=True),
        "webp transparent animated": picture(
            hidden, "WEBP", lossless=True, exact=True, save_all=True, append_images=[Image.new("RGBA", (16, 16))]
        ),
        "png black where transparent": picture(np.dstack([hidden[..., :3] * 0, hidden[..., 3] // 128 * 255])),
        "png transparent grey": picture(grey),
        "png transparent colour": picture(colours, "PNG", transparency=3),
        "gif transparent colour": picture(colours, "GIF", transparency=3),
        "gif opaque": picture(colours, "GIF"),
        "gif animated": picture(colours, "GIF", save_all=True, append_images=[colours.rotate(180)], duration=100),
        "bmp of a palette": picture(colours, "BMP"),
        "bmp of one bit": picture(Image.fromarray(tiny().images[1]).convert("1"), "BMP"),
        "png of one bit": picture(Image.fromarray(tiny().images[1]).convert("1")),
        "png grey, one transparent": picture(Image.fromarray(tiny().images[1][..., 0]), transparency=30),
        "png colour, one transparent": picture(tiny().images[1], transparency=tuple(tiny().images[1][3, 4].tolist())),
        "png palette, half transparent": picture(colours, "PNG", transparency=bytes(range(0, 256, 32))),
        "png of 16 bits": picture(Image.fromarray(tiny().images[1][..., 0].astype("uint16") * 257)),
    }  # fmt: skip
    return {name: ("application/octet-stream", body, _on_white(body, name)) for name, body in files.items()}


def _on_white(body, name):
    opened = Image.open(io.BytesIO(body))
    if name.endswith("16 bits"):
        return np.repeat((np.asarray(opened) // 257).astype("uint8")[..., None], 3, axis=-1)
    opened = opened.convert("RGBA")
    return np.asarray(Image.alpha_composite(Image.new("RGBA", opened.size, "white"), opened).convert("RGB"))


def bad_requests():
    """{name: (content type, body, status, words of the message)}: what must be refused, and how."""
    return _bad_json() | _bad_npy() | _bad_pictures() | _bad_kinds()


def _bad_json():
    image = tiny().images[0]
    pixels = image.tolist()
    ragged = image.tolist()
    ragged[3] = ragged[3][:-1]
    scaled = (image / 255).tolist()
    text = base64.b64encode(picture(image)).decode()

    def with_value(text):
        return json.dumps({"image": pixels}).replace(str(pixels[0][0][0]), text, 1).encode()

    bodies = {
        "empty": (b"", "empty"),
        "cut": (b'{"image": [[', "not valid JSON"),
        "not utf-8": (b'{"image": "\xff"}', "not valid JSON"),
        "deep": (b"[" * 200_000, "not valid JSON"),
        "long number": (b'{"image": ' + b"9" * 10_000 + b"}", "not valid JSON"),
        "other key": (encoded({"data": [pixels]}), '{"instances"'),
        "two keys": (encoded({"image": pixels, "images": [pixels]}), "one known key"),
        "other signature": (encoded({"signature_name": "classify", "instances": [pixels]}), "signature_name"),
        "empty batch": (encoded({"instances": []}), "no image"),
        "empty list": (b"[]", "no image"),
        "null": (encoded({"instances": None}), "no image"),
        "null alone": (b"null", '{"instances"'),
        "number": (encoded({"image": 5}), "16 x 16 x 3"),
        "ragged": (encoded({"image": ragged}), "not every row is a list of 16"),
        "short": (encoded({"image": pixels[:-1]}), "not every image"),
        "too deep": (encoded({"image": [[pixels]]}), "16 x 16 x 3"),
        "one in batch": (encoded({"images": [pixels, pixels[:-1]]}), "not every image"),
        "grey": (encoded({"image": image[..., 0].tolist()}), "16 x 16 x 3"),
        "channels first": (encoded({"image": image.transpose(2, 0, 1).tolist()}), "16 x 16 x 3"),
        "NaN": (with_value("NaN"), "NaN"),
        "infinity": (with_value("-Infinity"), "-Infinity"),
        "overflow": (with_value("1e999"), "0 to 255"),
        "large integer": (with_value("9" * 400), "0 to 255"),
        "negative": (with_value("-1"), "send 0..255"),
        "256": (with_value("256"), "0 to 255"),
        "255.5": (with_value("255.5"), "0 to 255"),
        "text": (with_value('"7"'), "not a number"),
        "true": (with_value("true"), "not a number"),
        "scaled": (encoded({"image": scaled}), "send 0..255"),
        "scaled in a batch": (encoded({"instances": [pixels, scaled]}), "send 0..255"),
        "scaled in a list": (encoded([scaled]), "send 0..255"),
        "half scaled": (encoded({"image": (image / 127.5 - 1).tolist()}), "send 0..255"),
        "files beside numbers": (encoded({"instances": [pixels, {"b64": text}]}), "send them separately"),
        "no base64": (encoded({"image": "not base64!"}), "not base64"),
        "base64 of nothing": (encoded({"image": ""}), "no picture file"),
        "base64 of text": (encoded({"instances": [{"b64": base64.b64encode(b"hello").decode()}]}), "no picture file"),
        "base64 of a cut file": (encoded({"image": text[:200]}), "PNG is cut off"),
        "address": (encoded({"image": "https://example.org/a.png"}), "not fetched"),
    }
    return {name: (JSON, body, 400, words) for name, (body, words) in bodies.items()}


def _bad_npy():
    image = tiny().images[0]
    bodies = {
        "npy magic": (b"\x93NUMPY", "not an npy file"),
        "npy cut": (npy(image)[:-1], "bytes"),
        "npy long": (npy(image) + b"0", "bytes"),
        "npy float": (npy(image.astype("float32")), "<f4"),
        "npy Fortran": (npy(np.asfortranarray(image)), "Fortran order True"),
        "npy shape": (npy(image[:8]), "(8, 16, 3)"),
        "npy none": (npy(image[None][:0]), "(0, 16, 16, 3)"),
        "npy objects": (npy(np.array([{}])), "'|O'"),
        "npy record": (npy(np.zeros(2, [("a", "u1")])), "not an npy file"),
        "npy text": (b"1 2 3", "not an npy file"),
    }
    return {name: (NPY, body, 400, words) for name, (body, words) in bodies.items()}


def _bad_pictures():
    image = np.asarray(Image.fromarray(tiny().images[0]).resize((160, 120)))
    jpeg, slow = picture(image, "JPEG"), picture(image, "JPEG", progressive=True)
    png, gif, webp, bmp = (picture(image, form) for form in ("PNG", "GIF", "WEBP", "BMP"))
    flipped = bytearray(png)
    flipped[len(png) // 2] ^= 1
    without_size = png[:16] + bytes(8) + struct.pack(">5B", *png[24:29])
    bodies = {
        "png cut": (png[:-30], "the PNG is cut off"),
        "png cut in its header": (png[:20], "the PNG is cut off"),
        "png magic": (png[:4], "the PNG is cut off"),
        "png with a wrong checksum": (bytes(flipped), "the PNG is damaged"),
        "png with lines changed": (png.replace(b"\r\n", b"\n"), "--data-binary"),
        "png of nothing": (without_size + struct.pack(">I", zlib.crc32(without_size[12:])) + png[33:], "0 x 0"),
        "png without data": (png[:33] + png[-12:], "the PNG is damaged"),
        "jpeg magic": (jpeg[:2], "the JPEG is cut off"),
        "jpeg cut early": (jpeg[:100], "the JPEG is cut off"),
        "jpeg cut late": (jpeg[: len(jpeg) * 95 // 100], "the JPEG is cut off"),
        "jpeg cut in half": (jpeg[: len(jpeg) // 2], "the JPEG is cut off"),
        "progressive jpeg cut late": (slow[: len(slow) * 95 // 100], "the JPEG is cut off"),
        "jpeg without its tables": (jpeg.replace(b"\xff\xdb", b"\xff\xfe"), "the JPEG is damaged"),
        "jpeg without markers": (jpeg[:20] + bytes(100), "the JPEG is damaged"),
        "jpeg of 12 bits": (jpeg.replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc0\x00\x11\x0c"), "12 bits"),
        "gif cut": (gif[: len(gif) * 95 // 100], "the GIF is cut off"),
        "gif header": (gif[:8], "the GIF is cut off"),
        "webp cut": (webp[: len(webp) * 95 // 100], "the WEBP is cut off"),
        "bmp cut": (bmp[: len(bmp) * 95 // 100], "the BMP is cut off"),
        "bmp header": (bmp[:10], "the BMP is cut off"),
        "text": (b"hello", "not a picture"),
        "picture as text": (png.decode("utf-8", "replace").encode(), None),
    }  # fmt: skip
    found = {name: ("image/x-any", body, 400, words) for name, (body, words) in bodies.items() if words}
    huge = png[:16] + b"\x00\x00\x40\x00\x00\x00\x40\x00" + png[24:29]
    huge += struct.pack(">I", zlib.crc32(huge[12:])) + png[33:]
    form = b'--XX\r\nContent-Disposition: form-data; name="a"\r\n\r\nhello\r\n--XX--\r\n'
    return found | {
        "picture as text": (PNG, png.decode("utf-8", "replace").encode(), 415, "lost"),
        "large picture": (PNG, huge, 413, "16384 x 16384"),
        "form without a picture": ("multipart/form-data; boundary=XX", form, 415, "--data-binary"),
        "form with HEIC": (
            "multipart/form-data; boundary=XX",
            b'--XX\r\nContent-Disposition: form-data; name="f"; filename="a.heic"\r\n\r\n\0\0\0\x18ftypheic\r\n--XX--',
            415,
            "this is HEIC",
        ),
        "form of nothing": ("multipart/form-data; boundary=XX", b"hello", 415, "--data-binary"),
        "gzip cut": (JSON, gzip.compress(png)[:-20], 400, "compressed body is cut off"),
        "gzip damaged": (JSON, b"\x1f\x8b\x08\x00" + b"\xff" * 60, 400, "compressed body is damaged"),
        "gzip twice": (JSON, gzip.compress(gzip.compress(png)), 415, "compressed with gzip more than once"),
        "two gzips": (JSON, gzip.compress(b"[") + gzip.compress(b"]"), 400, "several gzip streams"),
        "zstd": (JSON, b"\x28\xb5\x2f\xfd" + bytes(60), 415, "compressed with zstd"),
        "brotli": (JSON, BROTLI, 415, "compressed with brotli"),
        "brotli of a picture": (PNG, BROTLI, 400, "compressed with brotli"),
        "brotli of lines": ("application/jsonlines", BROTLI, 415, "compressed with brotli"),
        "brotli of anything": ("application/octet-stream", BROTLI, 415, "compressed with brotli"),
        "gzip of a lot": (JSON, gzip.compress(bytes(2 * MORE_THAN_A_BODY)), 413, "6,291,456"),
    }


def _bad_kinds():
    image = tiny().images[0]
    others = {
        "HEIC": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
        "HEIC of another brand": b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic",
        "AVIF": picture(image, "AVIF"),
        "TIFF": picture(image, "TIFF"),
        "JPEG 2000": picture(image, "JPEG2000"),
        "ICO": picture(image, "ICO"),
        "PDF": picture(image, "PDF"),
        "SVG": b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"></svg>',
        "SVG of a Windows editor": b"\xef\xbb\xbf<svg xmlns='http://www.w3.org/2000/svg'/>",
        "PostScript": picture(image, "EPS"),
        "HTML": b"<!DOCTYPE html><html>",
        "PNM": picture(image, "PPM"),
        "zip": b"PK\x03\x04" + bytes(60),
        "JPEG XL": b"\xff\x0a" + bytes(20),
        "video": b"\0\0\0\x18ftypmp42" + bytes(20),
    }
    found = {name: ("application/octet-stream", body, 415, f"{name.split(' of ')[0]}") for name, body in others.items()}
    heic = base64.b64encode(others["HEIC"]).decode()
    return found | {
        "large body": (JSON, b" " * MORE_THAN_A_BODY, 413, "6,291,456"),
        "large picture file": (JPEG, picture(image, "JPEG") + bytes(MORE_THAN_A_BODY), 413, "make the picture smaller"),
        "csv": ("text/csv", b"1,2,3", 415, "text/csv"),
        "nothing known": ("application/x-protobuf", b"\x01\x02", 415, "application/json"),
        "heic as jpeg": (JPEG, others["HEIC"], 415, "this is HEIC; save the picture as JPEG or PNG"),
        "heic as json": (JSON, others["HEIC"], 415, "this is HEIC"),
        "heic as text": (JSON, encoded({"image": heic}), 415, "this is HEIC"),
    }


def encoded(document):
    return json.dumps(document).encode()
