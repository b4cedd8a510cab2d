"""Clients that ask a local server as fast as it answers, and use little time themselves: they share its cores."""

import asyncio
import base64
import gzip
import io
import itertools
import json
import random
import time
from urllib.parse import urlsplit

import numpy as np
from uvicorn.loops.auto import auto_loop_factory

from sagemaker_scripts.test_endpoint import ENCODERS, encode_json, encode_npy, encode_png

# A photograph's size in pixels, and how many times rarer each large request is than each small.
PHOTOGRAPH, RARER = (4000, 3000), 10


class Client(asyncio.Protocol):
    """Sends a request as soon as the last one is answered, over one connection for as long as that stays open.

    `requests` yields (bytes on the wire, expected status); `seconds` holds the response times.
    """

    def __init__(self, requests):
        self._requests = requests
        self.seconds, self.unexpected = [], 0

    async def run(self, address, duration):
        self._end = time.perf_counter() + duration
        while time.perf_counter() < self._end:
            self._closed = asyncio.get_running_loop().create_future()
            await asyncio.get_running_loop().create_connection(lambda: self, *address)
            await self._closed

    def connection_made(self, transport):
        self._transport = transport
        self._ask()

    def data_received(self, data):
        self._received += data
        head, _, body = self._received.partition(b"\r\n\r\n")
        if b"\r\n\r\n" not in self._received or len(body) < int(_header(head, b"content-length")):
            return
        now = time.perf_counter()
        self.seconds.append(now - self._begin)
        self.unexpected += int(head[9:12]) != self._expected
        self._begin = None
        if now < self._end and _header(head, b"connection") != b"close":
            self._ask()
        else:
            self._transport.close()

    def connection_lost(self, error):
        self.unexpected += self._begin is not None
        self._closed.set_result(None)

    def _ask(self):
        request, self._expected = next(self._requests)
        self._received, self._begin = b"", time.perf_counter()
        self._transport.write(request)


def ask(url, count, seconds, requests):
    """Ask the server at `url` with `count` clients for `seconds`; return (clients, seconds that it took).

    `requests`: a function from a client's number to its `Client.requests`.
    """
    address = urlsplit(url)
    clients = [Client(requests(number)) for number in range(count)]

    async def run():
        await asyncio.gather(*(client.run((address.hostname, address.port), seconds) for client in clients))

    begin = time.perf_counter()
    with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
        runner.run(run())
    return clients, time.perf_counter() - begin


def same(image, form="npy"):
    """Requests for `ask`: `image` in one form, endlessly."""
    kind, encode = ENCODERS[form.lower()]
    return lambda _: itertools.repeat((_on_the_wire(encode(image), kind), 200))


def mixed(image):
    """Requests for `ask`: what people send, right and wrong, each client in a random order of its own."""
    from PIL import Image

    photograph = io.BytesIO()
    Image.fromarray(image).resize(PHOTOGRAPH, Image.Resampling.BICUBIC).save(photograph, "JPEG", quality=90)
    photograph, png = photograph.getvalue(), encode_png(image)
    document = encode_json(image)
    small = [
        (png, 200), (encode_npy(np.stack([image] * 16)), 200), (encode_npy(image), 200), (document, 200),
        (gzip.compress(document), 200), (json.dumps({"b64": base64.b64encode(png).decode()}).encode(), 200),
        (png[:-40], 400), (json.dumps({"image": (image / 255).tolist()}).encode(), 400), (b"{", 400),
        (b"\0\0\0\x18ftypheic" + bytes(90), 415), (b"hello", 415),
    ]  # fmt: skip
    large = [(photograph, 200), (photograph[: len(photograph) // 2], 400), (bytes(7 * 1024**2), 413)]
    kinds = [(_on_the_wire(body, "application/octet-stream"), status) for body, status in small * RARER + large]

    def requests(number):
        generator = random.Random(number)
        while True:
            yield generator.choice(kinds)

    return requests


def _on_the_wire(body, kind):
    head = (
        f"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _header(head, name):
    """A header's value, or b"" if it is missing."""
    return next((line[len(name) + 1 :].strip() for line in head.split(b"\r\n") if line.lower().startswith(name)), b"")
