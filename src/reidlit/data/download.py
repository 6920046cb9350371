"""Downloads of archives over http and https."""

import logging
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import pooch
from requests import HTTPError, RequestException, Response, Timeout
from requests.exceptions import InvalidSchema
from tqdm import tqdm

from reidlit import __version__
from reidlit.data.disk_space import check_free_space

CHUNK = 1 << 16  # bytes
TIMEOUT = 30.0  # seconds without a byte
SCHEMES = ("http", "https")
MISSING = (404, 410)  # HTTP status codes


def fetch(url: str, target: Path, sha256: str | None = None) -> None:
    """Download a file unless it exists.

    The file appears under its name only when it is complete. An existing file with another checksum is replaced.

    Args:
        url: Address, http or https; redirects to anything else, and from https to http, are refused.
        target: Path of the file; its folder is created.
        sha256: Checksum in hexadecimal digits; `None` if it is unknown.

    Raises:
        FileNotFoundError: If the server does not have the file.
        ConnectionError: If the server cannot be reached, refuses, sends nothing for half a minute, or the connection is
            cut.
        OSError: If the disk does not have enough free space.
        ValueError: If the address is not http or https or returns a web page, or the checksum does not match.
    """
    if urlsplit(url).scheme.lower() not in SCHEMES:
        raise ValueError(
            f"{url} cannot be fetched: only http:// and https:// are. Give a file on this machine by its path."
        )
    pooch.get_logger().setLevel(logging.WARNING)
    # total: pooch replaces it, but needs a bar that is true before.
    with tqdm(desc=target.name, total=1, unit="B", unit_scale=True, unit_divisor=1024, disable=None) as progress:
        downloader = pooch.HTTPDownloader(
            progressbar=progress,
            chunk_size=CHUNK,
            timeout=TIMEOUT,
            headers={"User-Agent": f"reidlit/{__version__}", "Accept-Encoding": "identity"},
            hooks={"response": partial(_check_response, target=target)},
        )
        try:
            pooch.retrieve(
                url, sha256 and f"sha256:{sha256}", fname=target.name, path=target.parent, downloader=downloader
            )
        except RequestException as error:
            raise _explained(url, error) from error


def file_name(url: str) -> str:
    """Return the file name at the end of an address.

    Raises:
        ValueError: If the address does not end in a file name.
    """
    name = PurePosixPath(unquote(urlsplit(url).path)).name
    if not name.strip(". ") or not name.isprintable() or set(name) & set('\\:*?"<>|'):
        raise ValueError(f"{url} ends in no file's name. Fetch the file with a browser and give its path.")
    return name


def _check_response(response: Response, *_: Any, target: Path, **__: Any) -> None:
    """Refuse redirects that give up encryption, web pages, and files larger than the free space."""
    headers = response.headers
    if response.is_redirect:
        destination = urljoin(response.url, headers["Location"])
        if response.url.startswith("https:") and urlsplit(destination).scheme == "http":
            raise InvalidSchema(f"a redirect from https to http is refused ({destination})")
        return
    if response.ok and headers.get("Content-Type", "").startswith("text/html"):
        raise ValueError(
            f"{response.url} gives a web page, not a file. Open it in a browser, and fetch there what it offers."
        )
    if response.ok:
        check_free_space(target.parent, int(headers.get("Content-Length") or 0), response.url)


def _explained(url: str, error: RequestException) -> OSError:
    kind: type[OSError] = ConnectionError
    reason = str(error)
    if isinstance(error, HTTPError) and error.response is not None:
        reason = f"its server answers {error.response.status_code}, {error.response.reason}"
        kind = FileNotFoundError if error.response.status_code in MISSING else ConnectionError
    elif isinstance(error, Timeout):
        reason = f"its server sends nothing for {TIMEOUT:g} seconds"
    return kind(f"{url} cannot be fetched: {reason}. Try again, or fetch it with a browser and give its path.")
