"""Fetching files that are cut short, changed or gone."""

import errno
import hashlib
import re
import shutil
import ssl
from http.client import HTTPException, HTTPMessage
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from tqdm import tqdm

from reidlit import __version__

CHUNK = 1 << 16  # no more is lost where a connection breaks
TIMEOUT = 30.0  # seconds without a byte
SCHEMES = ("http", "https")
PARTIAL, NOT_FOUND, GONE, RANGE_NOT_SATISFIABLE = 206, 404, 410, 416
NETWORK_ERRORS = (URLError, HTTPException, ConnectionError, TimeoutError, ssl.SSLError)


def fetch(url: str, target: Path, sha256: str | None = None) -> None:
    """Fetch a file, unless it is there; go on where an earlier call was cut short.

    What has arrived lies in `<target>.part`, and beside it, in `<target>.part.version`, of which version of the file it is:
    if the server's has changed since, or it cannot send a part, all is fetched anew. The file appears under its name only
    when it is whole. A file that is there counts as whole if it has this checksum or, where none is known, the size that the
    server states, if it states one; another is replaced.

    Args:
        url: http or https; redirects to anything else, and from https to http, are refused.
        target: where to; its folder is made if it is missing.
        sha256: of the file, in hexadecimal digits; `None` if it is not known.

    Raises:
        FileNotFoundError: if the server has no such file.
        ConnectionError: if it cannot be reached, sends nothing for half a minute, refuses, or the connection is cut.
        OSError: if the disk has too little room.
        ValueError: if the address is no http or https, gives a web page, or the file has another checksum.
    """
    if urlsplit(url).scheme.lower() not in SCHEMES:
        raise ValueError(
            f"{url} cannot be fetched: only http:// and https:// are. Give a file on this machine by its path."
        )
    if sha256 and target.is_file() and _sha256(target) == sha256.lower():
        return
    part, version = (target.with_name(f"{target.name}.{suffix}") for suffix in ("part", "part.version"))
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        there = _receive(url, target, part, version, check_size=not sha256)
    except NETWORK_ERRORS as error:
        raise _explained(url, target, part, error) from error
    if there:
        return
    if sha256 and (found := _sha256(part)) != sha256.lower():
        part.unlink()
        version.unlink(missing_ok=True)
        raise ValueError(
            f"{url} was fetched but is not what it should be: its sha256 is {found} instead of {sha256}. It was removed. "
            "Try again; if it is the same, the file was altered or replaced."
        )
    part.replace(target)
    version.unlink(missing_ok=True)


def file_name(url: str) -> str:
    """The name of the file that an address ends in.

    Raises:
        ValueError: if it ends in none.
    """
    name = PurePosixPath(unquote(urlsplit(url).path)).name
    if not name.strip(". ") or not name.isprintable() or set(name) & set('\\:*?"<>|'):
        raise ValueError(f"{url} ends in no file's name. Fetch the file with a browser and give its path.")
    return name


def _receive(url: str, target: Path, part: Path, version: Path, check_size: bool) -> bool:
    """Complete `part`; or do nothing and give `True`, where the target has the size that the server states."""
    start, known = _arrived(url, part, version)
    with _open(url, start, known) as reply:
        if reply.status != PARTIAL:
            start = 0
        length = reply.headers["Content-Length"]
        total = start + int(length) if length and length.isdecimal() else None
        if check_size and target.is_file() and total in (None, target.stat().st_size):
            return True
        if reply.headers.get_content_type() == "text/html":
            raise ValueError(
                f"{url} gives a web page, not a file. Open it in a browser, and fetch there what it offers."
            )
        _check_room(url, target, (total or 0) - start)
        if not start:
            part.unlink(missing_ok=True)
            version.write_text(f"{url}\n{_version(reply.headers)}", encoding="utf-8")
        with (
            part.open("ab") as file,
            tqdm(
                total=total,
                initial=start,
                desc=target.name,
                unit="B",
                unit_scale=True,
                unit_divisor=1024,
                disable=None,
            ) as progress,
        ):
            while chunk := reply.read(CHUNK):
                file.write(chunk)
                progress.update(len(chunk))
    size = part.stat().st_size
    if total not in (None, size):
        raise ConnectionError(f"the connection was cut after {size:,} of {total:,} bytes")
    return False


def _arrived(url: str, part: Path, version: Path) -> tuple[int, str]:
    """How many bytes of which version are there; none where that is not known."""
    try:
        origin, known = version.read_text(encoding="utf-8", errors="replace").split("\n")
        return (part.stat().st_size, known) if origin == url and known else (0, "")
    except (FileNotFoundError, ValueError):
        return 0, ""


def _version(headers: HTTPMessage) -> str:
    """What the server calls this version of the file, empty if it does not say; a weak tag does not vouch for the bytes."""
    tag = headers["ETag"]
    return str((tag if tag and not tag.startswith("W/") else headers["Last-Modified"]) or "")


def _open(url: str, start: int, version: str) -> Any:
    """Ask for the file from a byte on, if it is still this version; else for all of it."""
    headers = {"User-Agent": f"reidlit/{__version__}"}
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": version}
    request = Request(quote(url, safe="%/:?#[]@!$&'()*+,;=~"), headers=headers)
    try:
        reply = build_opener(_Redirects).open(request, timeout=TIMEOUT)
    except HTTPError as error:
        if start and error.code == RANGE_NOT_SATISFIABLE:
            error.close()
            return _open(url, 0, "")
        raise
    if start and reply.status == PARTIAL and not re.match(rf"bytes {start}-", reply.headers["Content-Range"] or ""):
        reply.close()
        return _open(url, 0, "")
    return reply


class _Redirects(HTTPRedirectHandler):
    """Follows a redirect only to http and https, and never from https to http."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        scheme = urlsplit(newurl).scheme.lower()
        if scheme not in SCHEMES or (req.type == "https" and scheme == "http"):
            fp.close()
            raise URLError(f"it leads to {newurl}, and a redirect from {req.type} to {scheme} is refused")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_room(url: str, target: Path, needed: int) -> None:
    free = shutil.disk_usage(target.parent).free
    if needed > free:
        error = OSError(
            f"{url} has {needed / 1e9:,.1f} GB to fetch, but the disk of {target.parent} has {free / 1e9:,.1f} GB free. "
            "Make room or give another data.root."
        )
        error.errno = errno.ENOSPC
        raise error


def _explained(url: str, target: Path, part: Path, error: Exception) -> OSError:
    kind: type[OSError] = ConnectionError
    reason: Any = getattr(error, "reason", None) or error
    if isinstance(error, HTTPError):
        error.close()
        reason = f"its server answers {error.code}, {error.reason}"
        if error.code in (NOT_FOUND, GONE):
            kind = FileNotFoundError
    elif isinstance(reason, TimeoutError):
        reason = f"its server sends nothing for {TIMEOUT:g} seconds"
    way_out = "Try again, or fetch it with a browser and give its path."
    if target.is_file():
        way_out = f"{target} is there from before and may be whole."
    elif part.is_file():
        way_out += " What has arrived is kept."
    return kind(f"{url} cannot be fetched: {reason}. {way_out}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
