"""Download of archives over http and https."""

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
from reidlit.escaping import for_terminal
from reidlit.locks import locked

CHUNK = 1 << 16  # bytes
TIMEOUT = 30.0  # seconds without a byte
SCHEMES = ("http", "https")
MISSING = (404, 410)  # HTTP status codes


def fetch(url: str, target: Path, sha256: str | None = None) -> None:
    """Download a file unless it exists.

    The file is written atomically. An existing file with a different checksum is replaced. If another process is
    downloading the file, wait for that process.

    Args:
        url: Address with the scheme http or https. Redirects to other schemes, or from https to http, are rejected.
        target: Path of the file; its folder is created if missing.
        sha256: Expected checksum in hexadecimal digits, or `None` if it is unknown.

    Raises:
        FileNotFoundError: If the server does not have the file.
        ConnectionError: If the server cannot be reached, rejects the request, sends nothing for 30 seconds or closes
            the connection early.
        OSError: If the disk does not have enough free space.
        ValueError: If the scheme is not http or https, the server returns a web page, or the checksum does not match.
    """
    if urlsplit(url).scheme.lower() not in SCHEMES:
        raise ValueError(
            f"{url} cannot be downloaded: only http:// and https:// are supported. Give the path of a local file "
            "instead."
        )
    pooch.get_logger().setLevel(logging.WARNING)
    # pooch replaces `total`, but requires a bar that is truthy, which a bar without a total is not.
    with (
        locked(target),
        tqdm(
            desc=for_terminal(target.name), total=1, unit="B", unit_scale=True, unit_divisor=1024, disable=None
        ) as progress,
    ):
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
            raise _download_error(url, error) from error


def file_name(url: str) -> str:
    """Return the file name at the end of an address.

    Raises:
        ValueError: If the address does not end in a file name.
    """
    name = PurePosixPath(unquote(urlsplit(url).path)).name
    if not name.strip(". ") or not name.isprintable() or set(name) & set('\\:*?"<>|'):
        raise ValueError(
            f"{url} does not end with a valid file name. Download the file with a browser and give its path."
        )
    return name


def _check_response(response: Response, *_: Any, target: Path, **__: Any) -> None:
    """Reject redirects to unencrypted connections, web pages, and files larger than the free disk space."""
    headers = response.headers
    if response.is_redirect:
        destination = urljoin(response.url, headers["Location"])
        if response.url.startswith("https:") and urlsplit(destination).scheme == "http":
            raise InvalidSchema(f"a redirect from https to http is not allowed ({destination})")
        return
    if response.ok and headers.get("Content-Type", "").startswith("text/html"):
        raise ValueError(
            f"{response.url} is a web page, not a file. Open it in a browser, download the file and give its path."
        )
    if response.ok:
        check_free_space(target.parent, int(headers.get("Content-Length") or 0), response.url)


def _download_error(url: str, error: RequestException) -> OSError:
    kind: type[OSError] = ConnectionError
    reason = str(error)
    if isinstance(error, HTTPError) and error.response is not None:
        reason = f"the server responded {error.response.status_code} {error.response.reason}"
        kind = FileNotFoundError if error.response.status_code in MISSING else ConnectionError
    elif isinstance(error, Timeout):
        reason = f"the server sent nothing for {TIMEOUT:g} seconds"
    return kind(
        f"{url} cannot be downloaded: {reason}. Try again, or download the file with a browser and give its path."
    )
