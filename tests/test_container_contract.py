"""The archive in a stand-in of SageMaker's TensorFlow Serving image: what starts, what it answers."""

import base64
import contextlib
import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import packed
import pytest
import request_kinds
import requests
import requests_fuzz
import servers

from sagemaker_scripts import serve_local

CONTAINER = Path(__file__).with_name("container.py")


def asking(session, url):
    """A function of (content type, body, further headers) to requests' Response."""
    session.trust_env = False  # It would look through the environment for a proxy with every request.
    return lambda kind, body, **headers: session.post(
        f"{url}/invocations", body, headers={"Content-Type": kind, **headers}, timeout=30
    )


@contextlib.contextmanager
def container(folder, port, image="new"):
    """The stand-in as a process of its own; yields `asking` it."""
    process = subprocess.Popen(
        [sys.executable, CONTAINER, folder, str(port), image], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(process.stderr.read())
        with requests.Session() as session:
            yield asking(session, f"http://127.0.0.1:{int(line)}")
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def tiny():
    return packed.tiny()


@pytest.fixture(scope="module")
def port(tiny):
    with servers.tensorflow_serving("cnn", packed.loaded()) as port:
        yield port


@pytest.fixture(scope="module")
def new(tiny, port):
    with container(tiny.folder, port, "new") as ask:
        yield ask


@pytest.fixture(scope="module")
def old(tiny, port):
    with container(tiny.folder, port, "old") as ask:
        yield ask


@pytest.fixture(scope="module")
def local(tiny):
    """The same function for the local server."""
    with serve_local.start(tiny.archive) as url, requests.Session() as session:
        yield asking(session, url)


@pytest.mark.parametrize("image", ["old", "new"])
def test_every_form_is_answered_as_keras_answers(tiny, image, request):
    ask = request.getfixturevalue(image)
    for name, (kind, body) in request_kinds.requests_of(tiny.images[0]).items():
        response = ask(kind, body)
        assert response.status_code == 200, (name, response.text)
        assert response.headers["Content-Type"] == "application/json"
        found = packed.probabilities(response.content)
        np.testing.assert_allclose(found, packed.straight(tiny.images[:1]), atol=1e-6, err_msg=name)


def test_a_batch_keeps_its_order_in_numbers_and_in_bytes(tiny, new):
    expected = packed.straight(tiny.images)
    as_json = json.dumps({"instances": (tiny.images + 0.5 * (tiny.images < 255)).tolist()}).encode()
    found = packed.probabilities(new("application/x-npy", packed.npy(tiny.images)).content)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    halves = packed.probabilities(new("application/json", as_json).content)
    np.testing.assert_allclose(halves, packed.straight(tiny.images + 0.5 * (tiny.images < 255)), atol=1e-6)


def test_a_photograph_is_resized_as_the_toolkits_way_resizes_it(tiny, new):
    body = packed.picture(np.repeat(np.repeat(tiny.images[2], 9, axis=0), 7, axis=1), "JPEG", quality=60)
    handlers = tiny.handlers
    local = handlers.predict_fn(handlers.input_fn(body, "image/jpeg"), packed.loaded())
    np.testing.assert_allclose(packed.probabilities(new("image/jpeg", body).content), local, atol=1e-6)


@pytest.mark.parametrize("count", [40, pytest.param(150, marks=pytest.mark.long)])
def test_both_servers_answer_alike(tiny, new, local, count):
    """Everything that people send, right and wrong, and much that nobody sends on purpose."""
    right = [request[:2] for request in request_kinds.lossless_requests().values()]
    wrong = [request[:2] for request in request_kinds.bad_requests().values()]
    photograph = packed.picture(np.repeat(np.repeat(tiny.images[2], 9, axis=0), 7, axis=1), "JPEG", quality=60)
    photographs = [photograph, photograph[:-2], photograph[:-200]]
    fuzz = requests_fuzz.malformed(request_kinds.requests_of(tiny.images[0]), packed.picture, count, seed=3)
    statuses = []
    for kind, body in [*right, *wrong, *[("image/jpeg", each) for each in photographs], *fuzz]:
        there, here = new(kind, body), local(kind, body)
        assert there.status_code == here.status_code, (kind, body[:80], there.text, here.text)
        statuses.append(here.status_code)
        if here.ok:
            np.testing.assert_allclose(
                packed.probabilities(there.content), packed.probabilities(here.content), atol=1e-6
            )
        else:
            assert there.json() == here.json(), (kind, body[:80])
    assert set(statuses) == {200, 400, 413, 415}
    assert statuses[: len(right)] == [200] * len(right)


def test_both_servers_explain_alike(tiny, new, old, local):
    why = {"X-Amzn-SageMaker-Custom-Attributes": "explain"}
    texts = [base64.b64encode(packed.picture(image)).decode() for image in tiny.images[:3]]
    for kind, body in (
        ("application/x-npy", packed.npy(tiny.images[:3])),
        ("application/json", json.dumps({"instances": (tiny.images[:3] + 0.0).tolist()}).encode()),
        ("application/json", json.dumps({"instances": [{"b64": text} for text in texts]}).encode()),
    ):
        here = local(kind, body, **why)
        maps = [each["grad_cam"] for each in here.json()["predictions"]]
        assert np.shape(maps) == (3, 8, 8)
        for ask in (new, old):
            there = ask(kind, body, **why)
            assert there.status_code == 200, there.text
            probabilities = packed.probabilities(there.content)
            np.testing.assert_allclose(probabilities, packed.probabilities(here.content), atol=1e-6)
            # One digit of rounding.
            np.testing.assert_allclose([each["grad_cam"] for each in there.json()["predictions"]], maps, atol=0.0011)
        assert "grad_cam" not in new(kind, body).text
    damaged = packed.picture(tiny.images[0])[:-40]
    assert new("", damaged, **why).json() == local("", damaged, **why).json()


def test_both_servers_take_a_body_that_comes_in_chunks(tiny, new, local):
    body = packed.picture(tiny.images[0])
    for ask in (new, local):
        answer = ask("image/png", iter([body[:7], body[7:100], body[100:]]))
        assert answer.status_code == 200, answer.text
        np.testing.assert_allclose(packed.probabilities(answer.content), packed.straight(tiny.images[:1]), atol=1e-6)


def test_bad_requests_get_their_status_in_the_new_image_and_the_sentence_in_both(new, old):
    for name, (kind, body, status, words) in request_kinds.bad_requests().items():
        response = new(kind, body)
        assert response.status_code == status, (name, response.text)
        assert words in response.json()["error"], (name, response.text)
        response = old(kind, body)
        assert response.status_code == 500, name
        assert words in response.json()["error"], name


def test_of_many_pictures_the_damaged_one_is_named(tiny, new, local):
    good = packed.picture(tiny.images[0])
    # Whole by its structure; only a decoder finds out.
    bad = packed.picture(tiny.images[0], "WEBP", lossless=True)
    bad = bad[:25] + bytes(len(bad) - 25)
    texts = [base64.b64encode(file).decode() for file in (good, bad, good)]
    body = json.dumps({"instances": [{"b64": text} for text in texts]}).encode()
    for ask in (new, local):
        response = ask("application/json", body)
        assert response.status_code == 400
        assert "the WEBP is damaged" in response.json()["error"]


def test_nothing_behind_the_handler_is_a_503(tiny):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        free = listener.getsockname()[1]
    with container(tiny.folder, free) as ask:
        response = ask("application/x-npy", packed.npy(tiny.images[0]))
    assert response.status_code == 503
    assert "does not answer" in response.json()["error"]


def test_a_failure_behind_the_handlers_is_a_5xx_that_says_so(tiny, port, tmp_path):
    shutil.copytree(tiny.folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "cnn").rename(tmp_path / "unknown")
    with container(tmp_path, port) as ask:
        response = ask("application/x-npy", packed.npy(tiny.images[0]))
    assert response.status_code == 500
    assert "TensorFlow Serving answered 404" in response.json()["error"]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / "cnn" / "1").rename(folder / "cnn" / "one"), "no SavedModel bundles found!"),
        (lambda folder: (folder / "code" / "inference.py").write_text("import numpy"), "numpy is not in the image"),
        (lambda folder: (folder / "code" / "inference.py").write_text("def model_fn(d): ..."), "not implemented"),
    ],
)
def test_the_stand_in_refuses_what_the_image_refuses(tiny, tmp_path, spoil, words):
    shutil.copytree(tiny.folder, tmp_path, dirs_exist_ok=True)
    spoil(tmp_path)
    with pytest.raises(RuntimeError, match=words), container(tmp_path, 1):
        pass
