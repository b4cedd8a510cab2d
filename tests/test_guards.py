"""Who reaches the local server, and for how long a connection may wait: the guards around a trivial application."""

import asyncio
import socket
import threading
import time

import pytest
import uvicorn

from sagemaker_scripts.serving import guards


async def hello(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"hi"})


def ask(guard, name="localhost", path="/invocations", query=b"", **headers):
    """(status, headers) of a request through `guard`."""
    sent = []

    async def send(message):
        sent.append(message)

    pairs = [(key.encode(), value.encode()) for key, value in headers.items()]
    if name is not None:
        pairs.append((b"host", name.encode()))
    scope = {"type": "http", "path": path, "query_string": query, "headers": pairs}
    asyncio.run(guard(scope, None, send))
    return sent[0]["status"], dict(sent[0]["headers"])


@pytest.mark.parametrize(
    ("host", "name", "status"),
    [
        ("127.0.0.1", "127.0.0.1:8080", 200),
        ("127.0.0.1", "localhost", 200),
        ("127.0.0.1", "LOCALHOST.:8080", 200),
        ("127.0.0.1", "[::1]:8080", 200),
        ("127.0.0.1", "evil.example", 421),
        ("127.0.0.1", "evil.example:8080", 421),
        ("127.0.0.1", "127.0.0.1.evil.example", 421),
        ("127.0.0.1", "10.0.0.7", 421),
        ("127.0.0.1", "", 421),
        ("127.0.0.1", None, 421),
        ("0.0.0.0", "10.0.0.7:8080", 200),
        ("0.0.0.0", "[fe80::1]:8080", 200),
        ("0.0.0.0", socket.gethostname(), 200),
        ("0.0.0.0", "evil.example", 421),
        ("laboratory", "laboratory:8080", 200),
    ],
)
def test_only_the_names_of_the_server_are_answered(host, name, status):
    assert ask(guards.Guard(hello, host), name)[0] == status


def test_no_answer_is_sniffed_nor_tells_where_it_came_from():
    for status, headers in (ask(guards.Guard(hello, "127.0.0.1")), ask(guards.Guard(hello, "127.0.0.1"), "evil")):
        assert headers[b"x-content-type-options"] == b"nosniff", status
        assert headers[b"referrer-policy"] == b"no-referrer"


def test_a_token_comes_as_a_header_or_in_the_address():
    guard = guards.Guard(hello, "0.0.0.0", "secret")
    assert ask(guard)[0] == 401
    assert ask(guard, path="/")[0] == 401
    assert ask(guard, query=b"token=wrong")[0] == 401
    assert ask(guard, query="token=sécret".encode())[0] == 401
    assert ask(guard, authorization="Basic secret")[0] == 401
    assert ask(guard, query=b"a=1&token=secret")[0] == 200
    assert ask(guard, authorization="Bearer secret")[0] == 200
    assert ask(guard, path="/ping")[0] == 200


def test_further_names_are_those_of_proxies():
    guard = guards.Guard(hello, "127.0.0.1", names=["Hub.example", "other.example:8443"])
    assert [ask(guard, name)[0] for name in ("hub.example", "other.example", "evil.example")] == [200, 200, 421]


@pytest.mark.parametrize(
    ("host", "alone"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
     ("", False), ("10.0.0.7", False), ("laboratory", False)],
)  # fmt: skip
def test_what_only_this_machine_reaches(host, alone):
    assert guards.is_loopback(host) == alone


@pytest.fixture(scope="module")
def port():
    """Of `hello` behind the bounded protocol."""
    config = uvicorn.Config(hello, http=guards.BoundedProtocol, log_level="critical", lifespan="off")
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join()


def connect(port, data=b""):
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    connection.sendall(data)
    return connection


def is_closed(connection):
    """Waits for the other side's end of a connection."""
    try:
        while connection.recv(4096):
            pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


WHOLE = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def test_half_a_header_is_not_waited_for(port, monkeypatch):
    monkeypatch.setattr(guards, "HEADER_SECONDS", 0.3)
    half = [connect(port, data) for data in (b"", b"GET / HT", WHOLE[:-2], WHOLE + WHOLE[:-2])]
    assert all(map(is_closed, half))


@pytest.mark.parametrize(
    "begin",
    [b"GET /", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ",
     b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ",
     b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;x="],
    ids=["address", "header", "trailer", "chunk"],
)  # fmt: skip
def test_a_header_without_end_is_refused(port, begin):
    with connect(port, begin) as connection, pytest.raises(ConnectionError):  # noqa: PT012 - when it notices is not ours
        for _ in range(1000):
            connection.sendall(b"y" * 10_000)
            time.sleep(0.001)


def test_a_body_in_very_small_chunks_is_no_header(port):
    body = b"1\r\ny\r\n" * 50_000 + b"0\r\n\r\n"
    with connect(port, b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n") as connection:
        connection.sendall(body)
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")


def test_a_slow_drip_of_a_header_is_not_waited_for(port, monkeypatch):
    monkeypatch.setattr(guards, "HEADER_SECONDS", 0.5)
    with connect(port, b"GET / HTTP/1.1\r\n") as connection:
        begin = time.monotonic()
        with pytest.raises(ConnectionError):
            while time.monotonic() - begin < 20:
                connection.sendall(b"X: y\r\n")
                time.sleep(0.05)


def test_requests_on_one_connection_go_on_past_the_limit_for_a_header(port, monkeypatch):
    monkeypatch.setattr(guards, "HEADER_SECONDS", 0.5)
    with connect(port) as connection:
        for _ in range(6):
            connection.sendall(WHOLE)
            received = b""
            while not received.endswith(b"hi"):
                received += connection.recv(4096)
            assert received.startswith(b"HTTP/1.1 200")
            time.sleep(0.2)


def test_more_connections_than_allowed_are_turned_away_until_others_end(port, monkeypatch):
    monkeypatch.setattr(guards, "CONNECTIONS", 3)
    held = [connect(port, b"GET") for _ in range(3)]
    time.sleep(0.2)
    with connect(port) as turned_away:
        assert turned_away.recv(4096).startswith(b"HTTP/1.1 503")
    for connection in held:
        connection.close()
    time.sleep(0.2)
    with connect(port, WHOLE) as connection:
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
