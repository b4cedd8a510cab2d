"""The local server over HTTP: its answers, load, bad input, stopping; and the client that tests an endpoint."""

import asyncio
import contextlib
import http.client
import io
import json
import os
import queue
import random
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import numpy as np
import packed
import pytest
import request_kinds
import requests
import requests_fuzz
from botocore.awsrequest import AWSResponse
from PIL import Image

from sagemaker_scripts import common, serve_local, test_endpoint
from sagemaker_scripts.serving import served

SCRIPT = Path(serve_local.__file__)
NPY = "application/x-npy"


@pytest.fixture(scope="module")
def tiny():
    return packed.tiny()


@pytest.fixture(scope="module")
def url(tiny):
    with serve_local.start(tiny.archive) as url:
        yield url


@pytest.fixture(scope="module")
def ask(url):
    """A function of (content type, body) to requests' Response."""
    with requests.Session() as session:
        session.trust_env = False  # It would look through the environment for a proxy with every request.
        yield lambda kind, body: session.post(f"{url}/invocations", body, headers={"Content-Type": kind}, timeout=30)


def raw(url, data, wait=0.5):
    """What the server sends back on a connection that carries exactly `data`, and then nothing."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port), timeout=wait) as connection:
        connection.sendall(data)
        received = b""
        try:
            while part := connection.recv(4096):
                received += part
        except (TimeoutError, ConnectionError):
            pass
        return received


def test_the_same_image_gives_the_same_probabilities_in_every_form(tiny, ask):
    for name, (kind, body) in request_kinds.requests_of(tiny.images[0]).items():
        response = ask(kind, body)
        assert response.status_code == 200, (name, response.text)
        assert response.headers["Content-Type"] == "application/json"
        np.testing.assert_allclose(
            packed.probabilities(response.content), packed.straight(tiny.images[:1]), atol=1e-6, err_msg=name
        )


def test_a_batch_larger_than_the_batchers_keeps_its_order(tiny, ask):
    images = np.tile(tiny.images, (4, 1, 1, 1))
    found = packed.probabilities(ask(NPY, packed.npy(images)).content)
    np.testing.assert_allclose(found, packed.straight(images), atol=1e-6)


def test_ping_the_card_and_the_page_answer(tiny, url):
    assert requests.get(f"{url}/ping", timeout=5).status_code == 200
    assert requests.get(f"{url}/model_card", timeout=5).json()["class_names"] == list(tiny.dataset.class_names)
    page = requests.get(url, timeout=5)
    assert page.headers["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert requests.get(f"{url}/docs", timeout=5).status_code == 404
    assert requests.get(f"{url}/invocations", timeout=5).status_code == 405
    for path in ("/", "/ping"):
        head = requests.head(url + path, timeout=5)
        assert head.status_code == 200 and not head.content
        assert head.headers["X-Content-Type-Options"] == "nosniff"


def test_a_picture_is_shown_as_the_model_sees_it(tiny, url):
    large = np.repeat(np.repeat(tiny.images[0], 5, axis=0), 3, axis=1)
    answer = requests.post(f"{url}/seen", packed.picture(large), timeout=5)
    assert answer.headers["Content-Type"] == "image/png"
    decoded = tiny.handlers.input_fn(packed.picture(large), "")
    expected = np.rint(tiny.handlers.pixel_array(decoded, packed.loaded())[0])
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(answer.content))), expected)
    assert requests.post(f"{url}/seen", b"hello", timeout=5).status_code == 400


def test_who_asks_why_is_told_where_the_network_looked(tiny, url):
    body = packed.picture(tiny.images[0])
    plain = requests.post(f"{url}/invocations", body, timeout=5).json()
    expected = tiny.handlers.explain_pixels(tiny.images[:1].astype("float32"), packed.loaded())[1]
    header = {"X-Amzn-SageMaker-Custom-Attributes": "explain"}
    for answer in (
        requests.post(f"{url}/invocations?explain", body, timeout=5),
        requests.post(f"{url}/invocations", body, headers=header, timeout=5),
        requests.post(f"{url}/invocations?a=b&explain=1", packed.npy(tiny.images[0]), timeout=5),
    ):
        np.testing.assert_allclose(packed.probabilities(answer.content), packed.straight(tiny.images[:1]), atol=1e-6)
        np.testing.assert_allclose(answer.json()["predictions"][0]["grad_cam"], expected[0], atol=0.001)
    assert "grad_cam" not in plain["predictions"][0]
    assert requests.post(f"{url}/invocations?explain", b"hello", timeout=5).status_code == 400


@pytest.mark.parametrize(
    "headers", [{"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c"}, {"Expect": "100-continue"}]
)
def test_what_clients_ask_of_the_connection_costs_no_body(tiny, url, headers):
    """As Java's client does, which would rather speak HTTP/2, and curl with a large body."""
    with requests.Session() as session:
        for _ in range(2):
            answer = session.post(f"{url}/invocations", packed.npy(tiny.images[0]), headers=headers, timeout=5)
            assert answer.status_code == 200, answer.text


def test_a_proxy_is_answered_once_it_is_named(tiny, url):
    with serve_local.start(tiny.archive, names=["hub.example:443"]) as named:
        for server, status in ((named, 200), (url, 421)):
            answer = requests.get(f"{server}/ping", headers={"Host": "hub.example"}, timeout=5)
            assert answer.status_code == status
    assert "--name" in answer.json()["error"]


def test_a_page_of_a_stranger_reaches_nothing(url, tiny):
    for path in ("/", "/ping", "/model_card", "/invocations"):
        response = requests.get(url + path, headers={"Host": "evil.example"}, timeout=5)
        assert response.status_code == 421, path
        assert "evil.example" in response.json()["error"]
    big = requests.post(f"{url}/invocations", bytes(3 * 1024**2), headers={"Host": "evil.example"}, timeout=5)
    assert big.status_code == 421


class Printed(io.StringIO):
    """Standard output of a program of which another thread waits for the line with the address."""

    def __init__(self):
        super().__init__()
        self.addresses = queue.Queue()

    def write(self, text):
        if " is served at " in text:
            self.addresses.put(text.split(" is served at ")[1].split()[0])
        return super().write(text)


# After a first server: uvicorn's first settings of logging have absl close the standard error that it was imported
# with, unless that is the present one, and here it is not.
@pytest.mark.usefixtures("url")
def test_a_server_for_others_warns_asks_for_its_token_and_stops_cleanly_on_ctrl_c(tiny):
    """As the command runs it; its address is all that a client needs."""
    printed, errors = Printed(), io.StringIO()
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def client():
        url = printed.addresses.get(timeout=30)
        with requests.Session() as session:  # A connection that is kept open must not hold it up.
            try:
                assert url.startswith("http://127.0.0.1:")
                assert "<!doctype html>" in session.get(url, timeout=5).text
                assert requests.get(url.partition("?")[0], timeout=5).status_code == 401
                names = tiny.dataset.class_names
                assert len(test_endpoint.check(tiny.images[:2], tiny.labels[:2], names, url=url)) == 2
            finally:
                os.kill(os.getpid(), signal.SIGINT)
                assert stopped.wait(20)

    stopped = threading.Event()
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors), ThreadPoolExecutor(1) as pool:
            asked = pool.submit(client)
            code = common.run(serve_local.main, [str(tiny.archive), "--port", "0", "--host", "0.0.0.0"])
            stopped.set()
            asked.result()
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
    assert code == common.EXIT_DONE
    assert printed.getvalue().endswith("stopped\n")
    assert "warning: whoever reaches 0.0.0.0" in errors.getvalue()


def test_bad_requests_are_refused_with_what_was_expected(ask):
    for name, (kind, body, status, words) in request_kinds.bad_requests().items():
        response = ask(kind, body)
        assert response.status_code == status, (name, response.text)
        assert words in response.json()["error"], name


def test_32_clients_at_once_each_get_their_own_answer(tiny, url):
    forms = {i: list(request_kinds.requests_of(image).values()) for i, image in enumerate(tiny.images[:32])}
    expected = packed.straight(tiny.images[:32])

    def client(number):
        generator = random.Random(number)
        with requests.Session() as session:
            for _ in range(10):
                kind, body = generator.choice(forms[number])
                response = session.post(f"{url}/invocations", body, headers={"Content-Type": kind}, timeout=60)
                assert response.status_code == 200
                np.testing.assert_allclose(packed.probabilities(response.content)[0], expected[number], atol=1e-5)

    with ThreadPoolExecutor(32) as pool:
        list(pool.map(client, range(32)))


@pytest.mark.parametrize("count", [60, pytest.param(600, marks=pytest.mark.long)])
def test_the_server_survives_many_malformed_requests(tiny, ask, count):
    statuses, right = set(), request_kinds.requests_of(tiny.images[0])
    for kind, body in requests_fuzz.malformed(right, packed.picture, count, seed=2):
        response = ask(kind, body)
        statuses.add(response.status_code)
        assert set(response.json()) == {"predictions" if response.status_code == 200 else "error"}
    assert {200, 400, 415} <= statuses <= {200, 400, 413, 415}
    assert ask(NPY, packed.npy(tiny.images[0])).status_code == 200


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"nonsense\r\n\r\n",
        b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{",
        b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"GET /%00%ff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 200_000 + b"\r\n\r\n",
    ],
    ids=["nothing", "TLS", "no HTTP", "negative length", "short body", "bad chunk", "odd path", "large header"],
)
def test_the_server_survives_what_is_no_http(url, data):
    assert not raw(url, data).startswith(b"HTTP/1.1 5")
    assert requests.get(f"{url}/ping", timeout=5).status_code == 200


def test_a_body_without_a_length_is_bounded_too(url):
    def endless():
        for _ in range(20):
            yield bytes(1024**2)

    response = requests.post(f"{url}/invocations", data=endless(), headers={"Content-Type": NPY}, timeout=30)
    assert response.status_code == 413


def test_a_body_that_never_ends_is_cut_off(url):
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=30)
    connection.putrequest("POST", "/invocations")
    connection.putheader("Content-Length", str(10**12))
    connection.endheaders()
    sent = 0
    with pytest.raises(OSError), connection.sock:  # noqa: PT012 - how many parts fit into the buffers is not ours
        while sent < 500 * 1024**2:
            connection.send(bytes(1024**2))
            sent += 1024**2
    assert requests.get(f"{url}/ping", timeout=5).status_code == 200


def test_a_slow_body_is_given_up(url, monkeypatch):
    monkeypatch.setattr(serve_local, "BODY_SECONDS", 0.2)
    answer = raw(url, b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{", wait=3)
    assert answer.startswith(b"HTTP/1.1 408")


def test_the_server_is_gone_and_its_folder_with_it_when_the_block_ends(tiny, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with serve_local.start(tiny.archive) as url:
        assert requests.get(f"{url}/ping", timeout=5).status_code == 200
        assert list(tmp_path.iterdir())
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{url}/ping", timeout=5)
    assert not list(tmp_path.iterdir())
    assert not [
        thread for thread in threading.enumerate() if thread.name == "batcher" and str(tmp_path) in repr(thread)
    ]


def test_a_missing_archive_and_a_taken_port_are_one_line_each(tiny, url, tmp_path, capsys):
    assert common.run(serve_local.main, [str(tmp_path / "none.tar.gz")]) == common.EXIT_BAD_ARGUMENTS
    assert capsys.readouterr().err.count("\n") == 1
    taken = str(urlsplit(url).port)
    assert common.run(serve_local.main, [str(tiny.archive), "--port", taken]) == common.EXIT_BAD_ARGUMENTS
    error = capsys.readouterr().err
    assert f"port {taken}" in error and "--port" in error and error.count("\n") == 1


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_program_stops_cleanly(tiny, number):
    command = [sys.executable, SCRIPT, tiny.archive, "--port", "0", "--host", "0.0.0.0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            url = process.stdout.readline().split(" is served at ")[1].split()[0]
            with requests.Session() as session:
                assert session.get(url, timeout=5).status_code == 200
                process.send_signal(number)
                rest, errors = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 0
    assert rest.endswith("stopped\n")
    assert [line for line in errors.splitlines() if line.startswith("warning: whoever reaches 0.0.0.0")]


def test_the_batcher_puts_what_waits_together_and_hands_each_his_own(monkeypatch):
    monkeypatch.setattr(served, "SIZES", (1, 2, 4, 8))
    monkeypatch.setattr(served, "FULL", 4)
    busy, go, sizes = threading.Event(), threading.Event(), []

    def predict(values):
        sizes.append(len(values))
        busy.set()
        assert go.wait(10)
        return values * 2

    async def run(batcher):
        first = batcher.submit(np.array([100]))
        await asyncio.to_thread(busy.wait, 10)
        others = [batcher.submit(np.array([i, i + 10])) for i in range(5)]
        gone = batcher.submit(np.array([7, 7]))
        assert gone.cancel()
        go.set()
        assert await first == [200]
        for i, other in enumerate(others):
            assert (await other).tolist() == [2 * i, 2 * i + 20]

    with contextlib.closing(served.Batcher(predict)) as batcher:
        asyncio.run(run(batcher))
    assert sizes == [1, 8, 2]


def test_a_failure_in_the_batcher_goes_to_its_callers_and_the_next_is_served():
    def predict(values):
        if values[0] < 0:
            raise ValueError("negative")
        return values

    async def run(batcher):
        with pytest.raises(ValueError, match="negative"):
            await batcher.submit(np.array([-1]))
        assert (await batcher.submit(np.array([1]))).tolist() == [1]

    with contextlib.closing(served.Batcher(predict)) as batcher:
        asyncio.run(run(batcher))


def test_the_model_meets_few_sizes_of_batches_whatever_is_asked():
    """As TensorFlow keeps memory for each: with all sizes from 1 to 64, the server grew for many minutes."""
    met = set()

    def compute(images):
        met.add(len(images))
        return images + 1, images.sum(axis=1)

    for count in range(1, 200):
        images = np.arange(2.0 * count).reshape(count, 2)
        more, sums = served.in_sizes(compute, images)
        np.testing.assert_array_equal(more, images + 1)
        np.testing.assert_array_equal(sums, images.sum(axis=1))
    assert met == set(served.SIZES)


def test_large_images_go_through_the_model_in_small_parts_whose_memory_is_bounded():
    assert served.sizes_of((32, 32, 3)) == served.SIZES
    assert served.sizes_of((224, 224, 3)) == (1, 2, 4)
    assert served.sizes_of((4000, 4000, 3)) == (1,)
    met = []
    images = np.zeros((20, 256, 256, 1), "uint8")
    (found,) = served.in_sizes(lambda part: [met.append(len(part)) or part[:, 0, 0, 0]], images)
    assert (found.shape, met) == ((20,), [4] * 5)


@pytest.mark.parametrize("form", test_endpoint.ENCODERS)
def test_the_client_finds_the_accuracy_that_keras_has(tiny, url, form):
    answers = test_endpoint.check(tiny.images[:40], tiny.labels[:40], tiny.dataset.class_names, url=url, form=form)
    expected = packed.straight(tiny.images[:40])
    names = np.array(tiny.dataset.class_names)
    assert answers.answer.tolist() == names[expected.argmax(axis=1)].tolist()
    assert answers.truth.tolist() == names[tiny.labels[:40]].tolist()
    np.testing.assert_allclose(answers.confidence, expected.max(axis=1), atol=1e-6)
    found = test_endpoint.summary(answers)
    assert found["accuracy"] == np.mean(expected.argmax(axis=1) == tiny.labels[:40])
    assert 0 <= found["accuracy_low"] < found["accuracy"] <= found["accuracy_high"] <= 1
    assert found["errors"] == 0
    assert 0 < found["p50_ms"] <= found["p95_ms"]


def test_the_client_counts_refusals_as_wrong_and_keeps_their_reason(tiny, url):
    answers = test_endpoint.check(tiny.images[:2, :8], tiny.labels[:2], tiny.dataset.class_names, url=url)
    assert answers.error.str.startswith("400").all() and answers.error.str.contains("16 x 16 x 3").all()
    assert test_endpoint.summary(answers)["errors"] == 2
    assert not answers.correct.any()


def test_the_client_says_when_nobody_answers_or_another_model_does(tiny, url):
    image, label, names = tiny.images[:1], tiny.labels[:1], tiny.dataset.class_names
    with pytest.raises(common.ScriptError, match="does not answer"):
        test_endpoint.check(image, label, names, url="http://127.0.0.1:9")
    with pytest.raises(common.ScriptError, match="other classes"):
        test_endpoint.check(image, label, ("a", "b", "c", "d"), url=url)
    with pytest.raises(common.ScriptError, match="not a prediction"):
        test_endpoint.read_prediction(b'{"message": "hello"}', names)
    with pytest.raises(common.BadArgumentsError, match="either the url"):
        test_endpoint.check(image, label, names)


class EndpointOf:
    """Routes invoke_endpoint of boto3 to the local server, as SageMaker routes it to the container."""

    def __init__(self, url):
        self.url, self.denied = url, False

    def __call__(self, request, **_):
        if self.denied:
            body = {"__type": "AccessDeniedException", "message": "not authorized, with an explicit deny"}
            return self.answer(request, 403, body)
        answer = requests.post(
            f"{self.url}/invocations",
            request.body,
            headers={"Content-Type": request.headers["Content-Type"]},
            timeout=30,
        )
        if answer.ok:
            return self.answer(request, 200, answer.json())
        body = {"OriginalStatusCode": answer.status_code, "OriginalMessage": answer.text, "__type": "ModelError"}
        return self.answer(request, 424, body)

    @staticmethod
    def answer(request, status, body):
        class Content(io.BytesIO):
            def stream(self, *_, **__):
                yield self.read()

        headers = {"x-amzn-ErrorType": body["__type"]} if "__type" in body else {}
        return AWSResponse(request.url, status, headers, Content(json.dumps(body).encode()))


@pytest.fixture
def endpoint(url, monkeypatch):
    """A boto3.Session whose endpoint "tiny" is the local server, and the route to it."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    session, route = boto3.Session(region_name="us-east-1"), EndpointOf(url)
    session.events.register("before-send.sagemaker-runtime.InvokeEndpoint", route)
    return session, route


def test_an_endpoint_is_asked_through_boto3(tiny, endpoint):
    session, route = endpoint
    names = tiny.dataset.class_names
    answers = test_endpoint.check(
        tiny.images[:5], tiny.labels[:5], names, endpoint="tiny", session=session, form="json"
    )
    np.testing.assert_allclose(answers.confidence, packed.straight(tiny.images[:5]).max(axis=1), atol=1e-6)
    refused = test_endpoint.check(tiny.images[:1, :8], tiny.labels[:1], names, endpoint="tiny", session=session)
    assert refused.error[0].startswith("400")
    route.denied = True
    with pytest.raises(common.DeniedError, match="InvokeEndpoint"):
        test_endpoint.check(tiny.images[:1], tiny.labels[:1], names, endpoint="tiny", session=session)
