"""Protects the local server from clients that would hold it up, and from those that should not reach it."""

import ipaddress
import json
import re
import secrets
import socket
from urllib.parse import parse_qs

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# A request's header has to arrive within this time; nobody has a good reason to send half of one.
HEADER_SECONDS = 10
# Limits on the bytes of a request outside its body: in its header, and per body byte, for the framing of chunks.
HEADER_BYTES, WRAPPING = 64 * 1024, 8
CONNECTIONS = 256
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
# Monitoring checks a server without knowing its token.
OPEN_PATHS = ("/ping",)
NAMING = "if it is your proxy's, start serve_local.py with --name and this name"
SAFE_HEADERS = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))
UPGRADE = re.compile(rb"\r\nupgrade\s*:", re.IGNORECASE)
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol with limits on the wait for a header, its length, and the number of connections."""

    _deadline, _spare = None, HEADER_BYTES

    def connection_made(self, transport):
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            transport.write(BUSY)
            transport.close()
        else:
            self._watch()

    def on_message_begin(self):
        self._spare = HEADER_BYTES
        super().on_message_begin()

    def on_body(self, body):
        self._spare += (1 + WRAPPING) * len(body)
        super().on_body(body)

    def data_received(self, data):
        self._spare -= len(data)
        super().data_received(_without_upgrade(data) if self._is_idle() else data)
        if self._spare < 0 and not self.transport.is_closing():
            self.send_400_response("The request's header is too long.")
        self._watch()

    def on_response_complete(self):
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc):
        self._unwatch()
        super().connection_lost(exc)

    def _watch(self):
        """Start the timer if no request is in progress, else stop it."""
        if not self._is_idle():
            self._unwatch()
        elif self._deadline is None and not self.transport.is_closing():
            self._deadline = self.loop.call_later(HEADER_SECONDS, self.transport.abort)

    def _is_idle(self):
        return self.cycle is None or self.cycle.response_complete

    def _unwatch(self):
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class Guard:
    """An ASGI application around `app` that answers only clients that ask for it by name and know its token.

    `host`: the address that the server listens on; `names`: further names, of proxies in front of
    it. A browser that a stranger's page sends here names that page's host (DNS rebinding), and gets
    421. `token`: text that has to come as `Authorization: Bearer` or as `?token=`, or None; if it
    is missing, the answer is 401.
    """

    def __init__(self, app, host, token=None, names=()):
        self._app, self._host, self._token = app, host, token
        self._names = {host_name(name) for name in names}

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self._app(scope, receive, send)

        async def send_safely(message):
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *SAFE_HEADERS]
            await send(message)

        headers = dict(scope["headers"])
        name = host_name(headers.get(b"host", b"").decode("latin-1"))
        if name not in self._names and not is_served_under(name, self._host):
            message = f"nothing is served here under the name {name[:80]!r}; {NAMING}"
            return await _refuse(send_safely, 421, message)
        if self._token and scope["path"] not in OPEN_PATHS and not self._knows_token(scope, headers):
            return await _refuse(send_safely, 401, "the token is missing or wrong; the server printed it on starting")
        return await self._app(scope, receive, send_safely)

    def _knows_token(self, scope, headers):
        scheme, _, given = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        if scheme.lower() != "bearer":
            given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        return secrets.compare_digest(given.encode(), self._token.encode())


def _without_upgrade(data):
    """The start of a request without its wish to switch protocols, which a server may ignore.

    httptools takes the body of such a request for the other protocol's. Java's client always asks.
    """
    end = data.find(b"\r\n\r\n") % (len(data) + 1)
    return UPGRADE.sub(b"\r\nIgnored:", data[:end]) + data[end:] if UPGRADE.search(data, 0, end) else data


def is_loopback(host):
    """Whether an address or name is one that only this machine can reach."""
    address = _address(host)
    return address.is_loopback if address else host == "localhost"


def host_name(header):
    """The name in a Host header, without its port and the brackets of an IPv6 address."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0].rstrip(".").lower()


def is_served_under(name, host):
    """Whether `name` means a server that listens on `host`.

    A server open to others may be reached at any of the machine's addresses: rebinding needs a name.
    """
    if name in LOCAL_NAMES or name == host:
        return True
    if is_loopback(host):
        return False
    return _address(name) is not None or name in (socket.gethostname().lower(), socket.getfqdn().lower())


def _address(name):
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


async def respond(send, status, kind, content, headers=()):
    """Send a complete ASGI response: `content` (bytes) of the content type `kind`."""
    sizes = [(b"content-type", kind.encode()), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*sizes, *headers]})
    await send({"type": "http.response.body", "body": content})


async def _refuse(send, status, message):
    # The rest of the request's body must not be taken for the next request.
    close = [(b"connection", b"close")]
    await respond(send, status, "application/json", json.dumps({"error": message}).encode(), close)
