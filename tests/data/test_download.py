"""Fetching from a server that cuts, changes, refuses or lies."""

import hashlib
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
    """Serves `server.content` at /file, redirects at /to, never answers at /silent, and refuses other paths."""

    def do_GET(self):
        settings = self.server
        settings.requests.append(self.headers)
        place, _, query = self.path.partition("?")
        if place == "/to":
            self.send_response(302)
            self.send_header("Location", query)
            self.end_headers()
        elif place == "/silent":
            settings.ended.wait(5)
        elif place != "/file":
            self.send_error(settings.status)
        else:
            self.send_response(200)
            for name, value in settings.headers.items():
                self.send_header(name, value)
            if settings.sized:
                self.send_header("Content-Length", str(len(settings.content)))
            self.end_headers()
            self.wfile.write(settings.content[: settings.cut_at])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.content, server.headers, server.requests = CONTENT, {}, []
        server.sized, server.cut_at, server.status = True, None, 404
        server.ended = Event()
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.ended.set()
        server.shutdown()
        thread.join()


def names(folder):
    return sorted(file.name for file in folder.iterdir())


def test_an_interrupted_download_leaves_no_file_and_can_be_repeated(server, tmp_path):
    server.cut_at = 100_000
    with pytest.raises(ConnectionError, match=r"/file cannot be fetched: .*100000 bytes read.*Try again"):
        fetch(f"{server.url}/file", tmp_path / "a.zip", SHA256)
    assert names(tmp_path) == []
    server.cut_at = None
    fetch(f"{server.url}/file", tmp_path / "a.zip", SHA256)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


@pytest.mark.parametrize("sha256", [None, SHA256, SHA256.upper()])
def test_fetches_once(server, tmp_path, sha256):
    target = tmp_path / "archives" / "a.zip"
    for _ in range(2):
        fetch(f"{server.url}/file", target, sha256)
        assert target.read_bytes() == CONTENT
        assert names(target.parent) == ["a.zip"]
    assert len(server.requests) == 1
    target.write_bytes(b"old")
    fetch(f"{server.url}/file", target, sha256)
    assert target.read_bytes() == (CONTENT if sha256 else b"old")


def test_wrong_checksum(server, tmp_path):
    with pytest.raises(ValueError, match=f"{'0' * 64} but got {SHA256}"):
        fetch(f"{server.url}/file", tmp_path / "a.zip", "0" * 64)
    assert names(tmp_path) == []
    (tmp_path / "a.zip").write_bytes(b"the user's own")
    with pytest.raises(ValueError, match=SHA256):
        fetch(f"{server.url}/file", tmp_path / "a.zip", "0" * 64)
    assert (tmp_path / "a.zip").read_bytes() == b"the user's own"


@pytest.mark.parametrize(
    ("status", "kind"),
    [(404, FileNotFoundError), (410, FileNotFoundError), (403, ConnectionError), (503, ConnectionError)],
)
def test_the_server_refuses(server, tmp_path, status, kind):
    server.status = status
    with pytest.raises(kind, match=rf"nowhere cannot be fetched: its server answers {status}.*give its path"):
        fetch(f"{server.url}/nowhere", tmp_path / "a.zip")
    assert names(tmp_path) == []


def test_no_network_and_silence(server, tmp_path, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}/a.zip"
    with pytest.raises(ConnectionError, match=r"cannot be fetched: .*refused"):
        fetch(nobody, tmp_path / "a.zip")
    monkeypatch.setattr(download, "TIMEOUT", 0.1)
    with pytest.raises(ConnectionError, match=r"sends nothing for 0\.1 seconds"):
        fetch(f"{server.url}/silent", tmp_path / "a.zip")
    with pytest.raises(ConnectionError, match="cannot be fetched"):
        fetch("http://127.0.0.1:port/a.zip", tmp_path / "a.zip")
    assert names(tmp_path) == []


def test_a_server_that_states_no_size(server, tmp_path):
    server.sized = False
    fetch(f"{server.url}/file", tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_only_http_and_https(server, tmp_path):
    (tmp_path / "secret").write_text("secret")
    target = tmp_path / "a.zip"
    for url in (f"file://{tmp_path}/secret", "ftp://127.0.0.1/a.zip", "data:,a"):
        with pytest.raises(ValueError, match="only http:// and https:// are"):
            fetch(url, target)
        with pytest.raises(ConnectionError, match="cannot be fetched: No connection adapters"):
            fetch(f"{server.url}/to?{url}", target)
        assert names(tmp_path) == ["secret"]
    with pytest.raises(ValueError, match="only http"):
        fetch("a.zip", target)
    fetch(f"{server.url}/to?{server.url}/file", target)
    assert target.read_bytes() == CONTENT


def test_a_redirect_never_gives_up_encryption(tmp_path):
    reply = requests.Response()
    reply.status_code, reply.url = 302, "https://example.org/a.zip"
    reply.headers["Location"] = "http://example.org/a.zip"
    with pytest.raises(requests.RequestException, match="from https to http is refused"):
        download._check_response(reply, target=tmp_path / "a.zip")
    reply.headers["Location"] = "/b.zip"
    download._check_response(reply, target=tmp_path / "a.zip")


def test_a_web_page_is_no_archive(server, tmp_path):
    server.headers = {"Content-Type": "text/html; charset=utf-8"}
    with pytest.raises(ValueError, match="gives a web page"):
        fetch(f"{server.url}/file", tmp_path / "a.zip")
    assert names(tmp_path) == []


def test_more_than_the_disk_holds(server, tmp_path, monkeypatch):
    monkeypatch.setattr(disk_space.shutil, "disk_usage", lambda _: SimpleNamespace(free=200_000))
    with pytest.raises(OSError, match=r"needs at least 0\.0 GB, but the disk"):
        fetch(f"{server.url}/file", tmp_path / "a.zip")
    assert names(tmp_path) == []


def test_file_names():
    assert file_name("http://a.org/b/VIPeR%20v1.0.zip?download=1#top") == "VIPeR v1.0.zip"
    for url in (
        "http://a.org",
        "http://a.org/",
        "http://a.org/..",
        "http://a.org/..%2F..",
        "http://a.org/%5C..%5Ca",
        "http://a.org/a%00",
    ):
        with pytest.raises(ValueError, match="ends in no file's name"):
            file_name(url)
