"""Downloads from a server that interrupts, rejects or redirects requests, or returns something else."""

import hashlib
import re
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from types import SimpleNamespace

import pytest
import requests

from reidlit.data import disk_space, download
from reidlit.data.download import fetch, file_name

CONTENT = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Handler that serves `server.content` at /file, redirects at /to, hangs at /silent, and fails elsewhere."""

    def do_GET(self):
        settings = self.server
        settings.requests.append(self.headers)
        path, _, query = self.path.partition("?")
        if path == "/to":
            self.send_response(302)
            self.send_header("Location", query)
            self.end_headers()
        elif path == "/silent":
            settings.stopped.wait(5)
        elif path != "/file":
            self.send_error(settings.status)
        else:
            self.send_response(200)
            for name, value in settings.headers.items():
                self.send_header(name, value)
            if settings.sized:
                self.send_header("Content-Length", str(len(settings.content)))
            self.end_headers()
            self.wfile.write(settings.content[: settings.end])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.content, server.headers, server.requests = CONTENT, {}, []
        server.sized, server.end, server.status = True, None, 404
        server.stopped = Event()
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.stopped.set()
        server.shutdown()
        thread.join()


def names(folder):
    return sorted(file.name for file in folder.iterdir())


def test_interrupted_download_leaves_no_file_and_can_be_repeated(server, tmp_path):
    server.end = 100_000
    with pytest.raises(ConnectionError, match=r"/file .*100000 bytes read"):
        fetch(f"{server.url}/file", tmp_path / "a.zip", SHA256)
    assert names(tmp_path) == []
    server.end = None
    fetch(f"{server.url}/file", tmp_path / "a.zip", SHA256)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


@pytest.mark.parametrize("sha256", [None, SHA256, SHA256.upper()])
def test_file_is_downloaded_once(server, tmp_path, sha256):
    target = tmp_path / "archives" / "a.zip"
    for _ in range(2):
        fetch(f"{server.url}/file", target, sha256)
        assert target.read_bytes() == CONTENT
        assert names(target.parent) == ["a.zip"]
    assert len(server.requests) == 1
    target.write_bytes(b"old")
    fetch(f"{server.url}/file", target, sha256)
    assert target.read_bytes() == (CONTENT if sha256 else b"old")


def test_wrong_checksum_raises_and_keeps_existing_file(server, tmp_path):
    with pytest.raises(ValueError, match=f"{'0' * 64} but got {SHA256}"):
        fetch(f"{server.url}/file", tmp_path / "a.zip", "0" * 64)
    assert names(tmp_path) == []
    (tmp_path / "a.zip").write_bytes(b"existing")
    with pytest.raises(ValueError, match=SHA256):
        fetch(f"{server.url}/file", tmp_path / "a.zip", "0" * 64)
    assert (tmp_path / "a.zip").read_bytes() == b"existing"


@pytest.mark.parametrize(
    ("status", "kind"),
    [(404, FileNotFoundError), (410, FileNotFoundError), (403, ConnectionError), (503, ConnectionError)],
)
def test_http_error_raises(server, tmp_path, status, kind):
    server.status = status
    with pytest.raises(kind, match=rf"/nowhere .*{status}"):
        fetch(f"{server.url}/nowhere", tmp_path / "a.zip")
    assert names(tmp_path) == []


def test_unreachable_or_silent_server_raises(server, tmp_path, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        unused = f"http://127.0.0.1:{free.getsockname()[1]}/a.zip"
    with pytest.raises(ConnectionError, match=rf"{unused} .*refused"):
        fetch(unused, tmp_path / "a.zip")
    monkeypatch.setattr(download, "TIMEOUT", 0.1)
    with pytest.raises(ConnectionError, match=r"/silent .*0\.1 seconds"):
        fetch(f"{server.url}/silent", tmp_path / "a.zip")
    with pytest.raises(ConnectionError, match=r"http://127.0.0.1:port/a.zip"):
        fetch("http://127.0.0.1:port/a.zip", tmp_path / "a.zip")
    assert names(tmp_path) == []


def test_download_without_content_length(server, tmp_path):
    server.sized = False
    fetch(f"{server.url}/file", tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_other_schemes_raise(server, tmp_path):
    (tmp_path / "secret").write_text("secret")
    target = tmp_path / "a.zip"
    for url in (f"file://{tmp_path}/secret", "ftp://127.0.0.1/a.zip", "data:,a"):
        with pytest.raises(ValueError, match="http:// and https://"):
            fetch(url, target)
        with pytest.raises(ConnectionError, match="No connection adapters"):
            fetch(f"{server.url}/to?{url}", target)
        assert names(tmp_path) == ["secret"]
    with pytest.raises(ValueError, match=r"a.zip .*http://"):
        fetch("a.zip", target)
    fetch(f"{server.url}/to?{server.url}/file", target)
    assert target.read_bytes() == CONTENT


def test_redirect_from_https_to_http_raises(tmp_path):
    reply = requests.Response()
    reply.status_code, reply.url = 302, "https://example.org/a.zip"
    reply.headers["Location"] = "http://example.org/a.zip"
    with pytest.raises(requests.RequestException, match=r"https to http .*http://example.org/a.zip"):
        download._check_response(reply, target=tmp_path / "a.zip")
    reply.headers["Location"] = "/b.zip"
    download._check_response(reply, target=tmp_path / "a.zip")


def test_web_page_raises(server, tmp_path):
    server.headers = {"Content-Type": "text/html; charset=utf-8"}
    with pytest.raises(ValueError, match=f"{server.url}/file .*web page"):
        fetch(f"{server.url}/file", tmp_path / "a.zip")
    assert names(tmp_path) == []


def test_insufficient_disk_space_raises(server, tmp_path, monkeypatch):
    monkeypatch.setattr(disk_space.shutil, "disk_usage", lambda _: SimpleNamespace(free=200_000))
    with pytest.raises(OSError, match=r"/file .*0\.0 GB"):
        fetch(f"{server.url}/file", tmp_path / "a.zip")
    assert names(tmp_path) == []


def test_file_name_of_url():
    assert file_name("http://a.org/b/VIPeR%20v1.0.zip?download=1#top") == "VIPeR v1.0.zip"
    for url in (
        "http://a.org",
        "http://a.org/",
        "http://a.org/..",
        "http://a.org/..%2F..",
        "http://a.org/%5C..%5Ca",
        "http://a.org/a%00",
    ):
        with pytest.raises(ValueError, match=re.escape(url)):
            file_name(url)
