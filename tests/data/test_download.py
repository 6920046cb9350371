"""Fetching from a server that cuts, changes, refuses or lies."""

import hashlib
import re
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from types import SimpleNamespace

import pytest

from reidlit.data import download
from reidlit.data.download import fetch, file_name

CONTENT = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Gives `server.content` at /file, with ranges; or whatever else a test wants to meet."""

    def do_GET(self):
        given = self.server
        given.requests.append(self.headers)
        place, _, query = self.path.partition("?")
        if place == "/to":
            self.send_response(302)
            self.send_header("Location", query)
            self.end_headers()
        elif place == "/silent":
            given.ended.wait(5)
        elif place != "/file":
            self.send_error(given.status)
        else:
            self.give(given)

    def give(self, given):
        start = 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        if asked and given.ranges and self.headers["If-Range"] in given.version.values():
            start = int(asked[1])
            if start >= len(given.content):
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        if start:
            self.send_header(
                "Content-Range", f"bytes {start + given.shift}-{len(given.content) - 1}/{len(given.content)}"
            )
        for name, value in (given.version | given.headers).items():
            self.send_header(name, value)
        if given.sized:
            self.send_header("Content-Length", str(len(given.content) - start))
        self.end_headers()
        self.wfile.write(given.content[start : given.cut_at])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.content, server.version, server.headers, server.requests = CONTENT, {"ETag": '"1"'}, {}, []
        server.ranges, server.sized, server.cut_at, server.shift, server.status = True, True, None, 0, 404
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


def interrupted(server, target, sha256=None):
    """Fetch the first 100,000 bytes, of which all whole chunks are kept."""
    server.cut_at = 100_000
    with pytest.raises(ConnectionError, match=r"cut after 100,000 of 256,000 bytes.*What has arrived is kept"):
        fetch(f"{server.url}/file", target, sha256)
    assert names(target.parent) == ["a.zip.part", "a.zip.part.version"]
    server.cut_at = None


@pytest.mark.parametrize("sha256", [None, SHA256, SHA256.upper()])
def test_fetches_once(server, tmp_path, sha256):
    target = tmp_path / "archives" / "a.zip"
    for _ in range(2):
        fetch(f"{server.url}/file", target, sha256)
        assert target.read_bytes() == CONTENT
        assert names(target.parent) == ["a.zip"]
    assert len(server.requests) == (1 if sha256 else 2)  # without a checksum the server is asked for the size
    target.write_bytes(b"old")
    fetch(f"{server.url}/file", target, sha256)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("version", [{"ETag": '"1"'}, {"Last-Modified": "Tue, 03 Feb 2015 10:00:00 GMT"}])
def test_goes_on_where_it_was_cut(server, tmp_path, version):
    server.version = version
    target = tmp_path / "a.zip"
    interrupted(server, target, SHA256)
    fetch(f"{server.url}/file", target, SHA256)
    assert target.read_bytes() == CONTENT
    assert names(tmp_path) == ["a.zip"]
    assert server.requests[-1]["Range"] == "bytes=100000-"
    assert [server.requests[-1]["If-Range"]] == list(version.values())


@pytest.mark.parametrize(
    ("change", "requests"),
    [
        ({"ranges": False}, 2),
        ({"version": {"ETag": '"2"'}, "content": CONTENT[::-1]}, 2),
        ({"shift": 7}, 3),  # the server sends another part than was asked for
        ({"content": b"short"}, 3),  # 416: there is no such part
    ],
)
def test_starts_anew_where_it_cannot_go_on(server, tmp_path, change, requests):
    target = tmp_path / "a.zip"
    interrupted(server, target)
    vars(server).update(change)
    fetch(f"{server.url}/file", target)
    assert target.read_bytes() == server.content
    assert names(tmp_path) == ["a.zip"]
    assert len(server.requests) == requests


@pytest.mark.parametrize("version", [{}, {"ETag": 'W/"1"'}])
def test_starts_anew_where_nothing_tells_the_version(server, tmp_path, version):
    server.version = version
    interrupted(server, tmp_path / "a.zip")
    fetch(f"{server.url}/file", tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert server.requests[-1]["Range"] is None


def test_starts_anew_from_another_address(server, tmp_path):
    interrupted(server, tmp_path / "a.zip")
    fetch(f"{server.url}/file?mirror", tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert server.requests[-1]["Range"] is None


def test_wrong_checksum(server, tmp_path):
    with pytest.raises(ValueError, match=f"its sha256 is {SHA256} instead of {'0' * 64}. It was removed"):
        fetch(f"{server.url}/file", tmp_path / "a.zip", "0" * 64)
    assert names(tmp_path) == []
    (tmp_path / "a.zip").write_bytes(b"the user's own")
    with pytest.raises(ValueError, match="instead of"):
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
    (tmp_path / "a.zip").write_bytes(b"whole")
    with pytest.raises(kind, match="is there from before and may be whole"):
        fetch(f"{server.url}/nowhere", tmp_path / "a.zip")


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
    server.content = b"other"
    fetch(f"{server.url}/file", tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_only_http_and_https(server, tmp_path):
    (tmp_path / "secret").write_text("secret")
    target = tmp_path / "a.zip"
    for url in (f"file://{tmp_path}/secret", "ftp://127.0.0.1/a.zip", "data:,a"):
        with pytest.raises(ValueError, match="only http:// and https:// are"):
            fetch(url, target)
        with pytest.raises(ConnectionError, match=r"cannot be fetched: .*(redirect|not allowed|refused)"):
            fetch(f"{server.url}/to?{url}", target)
        assert names(tmp_path) == ["secret"]
    with pytest.raises(ValueError, match="only http"):
        fetch("a.zip", target)
    fetch(f"{server.url}/to?{server.url}/file", target)
    assert target.read_bytes() == CONTENT


def test_a_redirect_never_gives_up_encryption():
    handler = download._Redirects()
    request = download.Request("https://example.org/a.zip")
    closed = SimpleNamespace(close=lambda: None)
    with pytest.raises(download.URLError, match="from https to http is refused"):
        handler.redirect_request(request, closed, 302, "Found", {}, "http://example.org/a.zip")
    assert handler.redirect_request(request, closed, 302, "Found", {}, "https://example.org/b.zip")


def test_a_web_page_is_no_archive(server, tmp_path):
    server.headers = {"Content-Type": "text/html; charset=utf-8"}
    with pytest.raises(ValueError, match="gives a web page"):
        fetch(f"{server.url}/file", tmp_path / "a.zip")
    assert names(tmp_path) == []


def test_more_than_the_disk_holds(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: SimpleNamespace(free=200_000))
    with pytest.raises(OSError, match=r"has 0\.0 GB to fetch, but the disk"):
        fetch(f"{server.url}/file", tmp_path / "a.zip")
    assert names(tmp_path) == []
    monkeypatch.undo()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    interrupted(server, tmp_path / "a.zip")
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: SimpleNamespace(free=200_000))
    fetch(f"{server.url}/file", tmp_path / "a.zip")  # only the rest needs room
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


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
