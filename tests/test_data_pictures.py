"""Picture files of all kinds become one kind of image; near-duplicates are told from likeness."""

import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from tiny_folder import encoded, photo

from cnnlab.data import pictures
from cnnlab.data.archives import BadDataError
from cnnlab.data.pictures import decode_picture, joined_groups, near_duplicates, opened_picture


def pixels(picture, form="PNG", size=48, **options):
    """The image of a Pillow picture that is saved and decoded, as signed numbers."""
    return decode_picture(encoded(picture, form, **options), size)[0].astype("int32")


@pytest.mark.parametrize(
    ("form", "options", "tolerance"),
    [
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("TIFF", {}, 0),
        ("PPM", {}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("JPEG", {"quality": 95}, 6),
        ("JPEG", {"quality": 95, "progressive": True}, 6),
    ],
)
def test_every_format_gives_the_same_image_letterboxed(form, options, tolerance):
    found = pixels(photo(1), form, **options)
    expected = np.zeros((48, 48, 3))
    expected[6:42] = photo(1)
    assert np.abs(found - expected).mean() <= tolerance


@pytest.mark.parametrize("size", [(300, 2), (2, 300), (1, 1), (48, 48)])
def test_any_shape_is_centred_on_black(size):
    image, thumbnail, pixel_size = decode_picture(encoded(Image.new("RGB", size, "white")), 20)
    rows, columns = (np.flatnonzero((image == 255).all(axis=2).any(axis=axis)) for axis in (1, 0))
    assert {len(rows), len(columns)} <= {1, 20}
    assert abs(rows.mean() - 9.5) <= 0.5
    assert abs(columns.mean() - 9.5) <= 0.5
    assert thumbnail.shape == (16, 16, 3)
    assert pixel_size == size


def test_greyscale_palettes_and_ink_become_rgb():
    grey = photo(0).convert("L")
    assert (pixels(grey) == pixels(grey.convert("RGB"))).all()
    assert (pixels(photo(0).convert("P")) == pixels(photo(0).convert("P").convert("RGB"))).all()
    assert np.abs(pixels(photo(0).convert("CMYK"), "TIFF") - pixels(photo(0))).max() <= 1
    assert set(np.unique(pixels(grey.convert("1"))[6:42])) == {0, 255}


def test_sixteen_bits_are_shown_by_the_upper_eight():
    grey = np.asarray(photo(0).convert("L"))
    deep = Image.fromarray(grey.astype("uint16") * 257)
    assert np.abs(pixels(deep) - pixels(Image.fromarray(grey))).max() <= 1
    assert np.abs(pixels(deep, "TIFF") - pixels(Image.fromarray(grey))).max() <= 1


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_transparent_is_white(mode):
    clear = photo(0).convert(mode)
    clear.putalpha(Image.fromarray(np.repeat([[0] * 24 + [255] * 24], 36, axis=0).astype("uint8")))
    found = pixels(clear)
    assert found[6:42, :24].min() == 255
    assert found[:6].max() == 0, "what is filled up is black all the same"
    assert (found[6:42, 24:] == pixels(photo(0) if mode == "RGBA" else photo(0).convert("L"))[6:42, 24:]).all()
    palette = photo(0).convert("P")
    assert pixels(palette, transparency=palette.getpixel((0, 0)))[6, 0].min() == 255


def test_half_transparent_pixels_are_half_white():
    clear = photo(0).convert("RGBA")
    clear.putalpha(128)
    expected = (np.asarray(photo(0)) * (128 / 255) + 127).round()
    for form, options in (("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})):
        assert np.abs(pixels(clear, form, **options)[6:42] - expected).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_its_exif_data_say(orientation):
    turned = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = photo(0) if turned is None else photo(0).transpose(Image.Transpose(turned))
    found = pixels(stored, "JPEG", quality=95, subsampling=0, exif=exif)
    assert np.abs(found - pixels(photo(0))).mean() < 4
    for form, options in (("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})):
        assert (pixels(stored, form, exif=exif, **options) == pixels(photo(0))).all()


def test_only_exif_data_turn_a_picture_as_the_packed_model_reads_no_other():
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    assert np.abs(pixels(photo(0), "JPEG", quality=95, subsampling=0, xmp=xmp) - pixels(photo(0))).mean() < 4
    assert (pixels(photo(0), exif=b"Exif\0\0 damaged") == pixels(photo(0))).all()


def test_the_first_of_several_pictures_counts():
    file = io.BytesIO()
    photo(0).convert("P").save(file, "GIF", save_all=True, append_images=[photo(1).convert("P")])
    assert np.abs(decode_picture(file.getvalue(), 48)[0].astype("int32") - pixels(photo(0).convert("P"))).mean() < 2


WHOLE = encoded(photo(0), "JPEG")
BAD = {
    "is empty": b"",
    "is not a JPEG/PNG": b"<html>Sign in</html>",
    "is not a valid JPEG picture": WHOLE[:-200],
    "is not a valid PNG picture": encoded(photo(0))[:-200],
    "is a HEIC picture.*save it as JPEG": b"\0\0\0\x18ftypheic" + bytes(100),
    "floating-point": encoded(Image.fromarray(np.ones((4, 4), "float32")), "TIFF"),
    "not a valid JPEG/PNG.*bomb": b"P6 1000000 1000000 255\n",
}


@pytest.mark.parametrize("reason", BAD)
def test_what_cannot_be_used_gets_a_reason(reason):
    with pytest.raises(BadDataError, match=reason):
        decode_picture(BAD[reason], 16)


def test_whatever_pillow_raises_is_said_of_the_picture():
    header = encoded(Image.new("RGB", (2, 2)))[:45]
    for data, said in ((b"GIF89a", "is not a PNG picture"), (header, "is not a valid PNG picture")):
        with pytest.raises(BadDataError, match=said), opened_picture(data, "PNG") as image:
            image.load()


def test_a_picture_of_too_many_pixels_is_not_decoded(monkeypatch):
    monkeypatch.setattr(pictures, "LARGEST_PICTURE", 1_000)
    with pytest.raises(BadDataError, match="48 x 36 pixels; expected at most 1,000"):
        decode_picture(encoded(photo(0)), 16)


def thumbnails(*photos):
    return np.stack([decode_picture(encoded(picture), 16)[1] for picture in photos])


def cut(picture):
    return picture.crop((1, 1, 47, 35))


SEEN_AGAIN = {
    "saved again": lambda picture: Image.open(io.BytesIO(encoded(picture, "JPEG", quality=30))),
    "smaller": lambda picture: picture.resize((24, 18)),
    "brighter": lambda picture: ImageEnhance.Brightness(picture).enhance(1.2),
    "mirrored": lambda picture: picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "cut": cut,
}


@pytest.mark.parametrize("change", SEEN_AGAIN)
def test_a_picture_is_known_again(change):
    first = thumbnails(*map(photo, range(20)))
    second = thumbnails(*(SEEN_AGAIN[change](photo(number)) for number in range(10)))
    assert sorted(map(tuple, near_duplicates(first, second).T)) == [(number, number) for number in range(10)]


def test_pictures_of_one_colour_are_like_none():
    flat = thumbnails(*(Image.new("RGB", (8, 8), colour) for colour in ("white", "white", "red")))
    assert near_duplicates(flat, flat).shape == (2, 0)
    assert near_duplicates(flat[:0], flat).shape == (2, 0)


def test_groups_with_near_duplicates_become_one():
    images = thumbnails(photo(0), photo(1), cut(photo(1)), photo(2), photo(3), cut(photo(0)))
    found = joined_groups(np.array(["a", "a", "b", "c", "d", "e"]), images)
    assert found[0] == found[1] == found[2] == found[5]
    assert len(set(found)) == 3
