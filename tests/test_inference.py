"""The handlers of a packed model, as functions and in SageMaker's own inference toolkit."""

import base64
import importlib
import io
import json
import sys

import numpy as np
import packed
import pytest
import request_kinds
import requests_fuzz
from PIL import Image, ImageOps
from sagemaker_inference.transformer import Transformer

from sagemaker_scripts.serving import savedmodel

TIGHT = {"atol": 1e-6, "rtol": 0}


@pytest.fixture(scope="module")
def tiny():
    return packed.tiny()


@pytest.fixture(scope="module")
def answer(tiny):
    """One function of (content type, body): the toolkit's four handlers one after the other."""
    model = packed.loaded()

    def run(kind, body):
        decoded = tiny.handlers.input_fn(body, kind)
        return tiny.handlers.output_fn(tiny.handlers.predict_fn(decoded, model), "application/json")[0]

    return run


def test_the_same_image_gives_the_same_probabilities_in_every_form(tiny, answer):
    for image in tiny.images[:3]:
        for name, (kind, body) in request_kinds.requests_of(image).items():
            np.testing.assert_allclose(
                packed.probabilities(answer(kind, body)), packed.straight([image]), **TIGHT, err_msg=name
            )


def test_the_answer_names_class_confidence_top_3_and_all_probabilities(tiny, answer):
    expected = packed.straight(tiny.images[:5])
    answers = json.loads(answer("application/x-npy", packed.npy(tiny.images[:5])))["predictions"]
    names = tiny.dataset.class_names
    for found, row in zip(answers, expected, strict=True):
        order = np.argsort(-row)
        assert found["predicted_class_index"] == order[0]
        assert found["predicted_class"] == names[order[0]]
        assert found["confidence"] == pytest.approx(row.max(), abs=1e-6)
        assert [entry["class"] for entry in found["top_3_predictions"]] == [names[i] for i in order[:3]]
        assert list(found["probabilities"]) == list(names)
        assert sum(found["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_the_scale_is_never_guessed(tiny, answer):
    dark = np.ones_like(tiny.images[0])
    alone = packed.probabilities(answer("application/json", json.dumps({"image": dark.tolist()})))
    among = packed.probabilities(
        answer("application/json", json.dumps({"images": [tiny.images[0].tolist(), dark.tolist()]}))
    )
    np.testing.assert_allclose(alone[0], among[1], **TIGHT)
    np.testing.assert_allclose(alone, packed.straight([dark]), **TIGHT)


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_a_picture_of_another_size_is_stretched_as_stated(tiny, answer, form):
    import tensorflow as tf

    large = np.repeat(np.repeat(tiny.images[0], 5, axis=0), 3, axis=1)
    body = packed.picture(large, form)
    pixels = tf.io.decode_image(body, channels=3)
    expected = tf.image.resize(pixels, (16, 16), method="bilinear", antialias=True)
    found = packed.probabilities(answer(f"image/{form.lower()}", body))
    np.testing.assert_allclose(found, packed.straight([expected]), **TIGHT)


def test_whatever_people_send_is_read_as_the_image_that_it_is(tiny):
    model = packed.loaded()
    for name, (kind, body, image) in request_kinds.lossless_requests().items():
        found = tiny.handlers.pixel_array(tiny.handlers.input_fn(body, kind), model)
        # One step for rounding half-transparent colours.
        assert np.abs(found[0] - image).max() <= 1, name
        assert len(found) == 1, name


def test_a_dark_picture_of_whole_numbers_is_taken_for_what_it_is(tiny, answer):
    for dark in (np.ones((16, 16, 3)), np.zeros((16, 16, 3)), np.full((16, 16, 3), 1.5)):
        for values in (dark, dark.astype(int)):
            found = packed.probabilities(answer("application/json", json.dumps({"image": values.tolist()})))
            np.testing.assert_allclose(found, packed.straight([values]), **TIGHT)


def test_many_pictures_in_one_request_keep_their_order(tiny, answer):
    files = [
        packed.picture(image, form, lossless=True)
        for image, form in zip(tiny.images[:8], ("PNG", "WEBP") * 4, strict=True)
    ]
    texts = [base64.b64encode(file).decode() for file in files]
    line = "".join(json.dumps({"image": text}) + "\n" for text in texts)
    part = b'--XX\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\n%s\r\n'
    for kind, body in (
        ("application/json", json.dumps({"instances": [{"b64": text} for text in texts]}).encode()),
        ("application/jsonlines", line.encode()),
        ("multipart/form-data; boundary=XX", b"".join(part % file for file in files) + b"--XX--"),
    ):
        found = packed.probabilities(answer(kind, body))
        np.testing.assert_allclose(found, packed.straight(tiny.images[:8]), **TIGHT, err_msg=kind)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("number", range(1, 9))
def test_a_photograph_is_turned_as_its_camera_was_held(tiny, number, order):
    """Against Pillow's reading of the same file, whose JPEG decoder rounds otherwise."""
    photograph = Image.fromarray(tiny.images[0]).resize((160, 96), Image.Resampling.BICUBIC)
    body = packed.picture(photograph, "JPEG", quality=95, exif=request_kinds.orientation(number, order))
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(body)))
    assert (upright.size == photograph.size) == (number < 5)
    model = packed.loaded()
    found = tiny.handlers.pixel_array(tiny.handlers.input_fn(body, "image/jpeg"), model)[0]
    assert np.abs(found - savedmodel.stretched(np.asarray(upright), 16, 16)).max() < 3


@pytest.mark.parametrize(
    "exif", [b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\x7f", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"]
)
def test_a_broken_exif_block_turns_nothing(tiny, exif):
    body = packed.picture(tiny.images[0], "JPEG", exif=exif)
    assert tiny.handlers.input_fn(body, "")[0].orientation == 1


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 2}])
def test_a_jpeg_without_its_last_bytes_is_decoded(tiny, answer, options):
    large = np.asarray(Image.fromarray(tiny.images[0]).resize((160, 96)))
    body = packed.picture(large, "JPEG", **options)
    whole = packed.probabilities(answer("image/jpeg", body))
    for cut in (body[:-1], body[:-2], body + b"\0\xff\xd8 a video of a phone"):
        np.testing.assert_allclose(packed.probabilities(answer("image/jpeg", cut)), whole, **TIGHT)


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
@pytest.mark.parametrize("size", [(5712, 4284), (8160, 6120)])
def test_a_large_photograph_is_decoded_at_a_reduced_size(tiny, answer, size, options):
    small = Image.fromarray(tiny.images[0]).resize((48, 48), Image.Resampling.BICUBIC)
    body = packed.picture(small.resize(size, Image.Resampling.NEAREST), "JPEG", **options)
    (picture,) = tiny.handlers.input_fn(body, "image/jpeg")
    assert picture.decoder > 1
    assert picture.work < tiny.handlers.reading.MAX_PICTURE_BYTES
    found = packed.probabilities(answer("image/jpeg", body))
    np.testing.assert_allclose(found, packed.straight([np.asarray(small.resize((16, 16), 2))]), atol=0.03)


def test_what_costs_too_much_to_decode_is_refused(tiny, answer):
    """Also by many scans in a few bytes, and by many pictures in one request."""
    large = Image.new("L", (6000, 6000))
    body = packed.picture(Image.new("L", (64, 64)), "JPEG", progressive=True)
    scan = body[body.rindex(b"\xff\xda") : -2]
    assert packed.probabilities(answer("image/jpeg", body)).shape == (1, 4)
    for kind, sent in (
        ("image/jpeg", body[:-2] + scan * 100 + body[-2:]),
        ("image/png", packed.picture(Image.new("LA", (6000, 6000)))),
        ("application/json", json.dumps([base64.b64encode(packed.picture(large)).decode()] * 3)),
    ):
        with pytest.raises(tiny.handlers.RequestError) as caught:
            answer(kind, sent)
        assert caught.value.status_code == 413, str(caught.value)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"comment": b"x" * 3000}, {"quality": 5}])
def test_the_size_in_a_jpeg_header_is_found_as_pillow_wrote_it(tiny, options):
    for height, width in ((1, 1), (7, 300), (480, 640)):
        body = packed.picture(np.zeros((height, width, 3), "uint8"), "JPEG", **options)
        assert tiny.handlers.reading.formats.read_jpeg(body)[1:3] == (width, height)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_npy_version_is_read(tiny, version):
    file = io.BytesIO()
    np.lib.format.write_array(file, tiny.images[:2], version=version)
    decoded = tiny.handlers.input_fn(file.getvalue(), "application/x-npy")
    assert np.array_equal(tiny.handlers.pixel_array(decoded, None), tiny.images[:2])


def test_bad_requests_are_refused_with_what_was_expected(tiny, answer):
    for name, (kind, body, status, words) in request_kinds.bad_requests().items():
        with pytest.raises(tiny.handlers.RequestError) as caught:
            answer(kind, body)
        assert caught.value.status_code == status, name
        assert words in str(caught.value), (name, str(caught.value))
        assert len(str(caught.value)) < 600, name


def test_a_model_that_answers_no_number_is_an_error_and_no_invalid_json(tiny):
    with pytest.raises(tiny.handlers.RequestError) as caught:
        tiny.handlers.encode([[float("nan")] * 4], tiny.handlers.card())
    assert caught.value.status_code == 500


@pytest.mark.parametrize("count", [500, pytest.param(5000, marks=pytest.mark.long)])
def test_malformed_requests_end_in_an_answer_or_a_4xx(tiny, answer, count):
    statuses = dict.fromkeys((200, 400, 413, 415), 0)
    right = request_kinds.requests_of(tiny.images[0])
    for kind, body in requests_fuzz.malformed(right, packed.picture, count, seed=1):
        try:
            found = packed.probabilities(answer(kind, body))
            assert np.isfinite(found).all()
            statuses[200] += 1
        except tiny.handlers.RequestError as error:
            statuses[error.status_code] += 1
    assert statuses[400] > 0.6 * count and statuses[200] > 0.01 * count, statuses


class ToolkitContext:
    """What the model server gives the toolkit about a request, and hears from it."""

    def __init__(self, model_dir, kind):
        self.system_properties = {"model_dir": str(model_dir)}
        self.request_processor = [self]
        self.properties = {"Content-Type": kind, "Accept": "application/json"}
        self.status, self.content_type = 200, None

    def get_request_properties(self):
        return self.properties

    def set_response_status(self, code, phrase):
        self.status = code

    def set_response_content_type(self, _, content_type):
        self.content_type = content_type


@pytest.fixture(scope="module")
def toolkit(tiny):
    """SageMaker's Transformer over the archive's code folder: (status, first line or body) of a request."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAGEMAKER_PROGRAM", "inference.py")
        patch.syspath_prepend(str(tiny.folder / "code"))
        patch.delitem(sys.modules, "inference", raising=False)
        importlib.invalidate_caches()
        transformer = Transformer()

        def ask(kind, body):
            context = ToolkitContext(tiny.folder, kind)
            (answer,) = transformer.transform([{"body": body}], context)
            return context.status, answer

        yield ask
        sys.modules.pop("inference", None)


def test_the_toolkit_serves_the_four_functions(tiny, toolkit):
    for name, (kind, body) in request_kinds.requests_of(tiny.images[0]).items():
        status, answer = toolkit(kind, body)
        assert status == 200, (name, answer)
        np.testing.assert_allclose(packed.probabilities(answer), packed.straight(tiny.images[:1]), **TIGHT)


def test_the_toolkit_passes_our_refusals_on(toolkit):
    for name, (kind, body, status, words) in request_kinds.bad_requests().items():
        if name == "not utf-8" or name.startswith(("gzip", "two gzips", "zstd", "brotli")):
            continue  # The toolkit takes what is called JSON for text, before it asks us.
        found, answer = toolkit(kind, body)
        assert found == status, (name, answer)
        assert words in answer, name
