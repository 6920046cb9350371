"""Image files to RGB arrays: fast for sound files, loud for broken ones."""

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

# A person crop has 10^4 to 10^6 pixels. Beyond 2^26 (8192 x 8192, 200 MB decoded) a file is a mistake or an attack.
MAX_PIXELS = 2**26

# Pillow knows dozens of formats, and runs Ghostscript for one of them. A file is opened as one of these or not at all.
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF")

_JPEG_START = b"\xff\xd8"
_JPEG_SCAN = b"\xff\xda"
_JPEG_END = b"\xff\xd9"
_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND\xaeB`\x82"
# Start-of-frame markers, which carry the size: C0 to CF without DHT (C4), JPG (C8) and DAC (CC).
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def decode(path: str | Path) -> np.ndarray[Any, Any]:
    """Reads an image file.

    Whole RGB and gray JPEG and PNG files go through OpenCV, which takes half of Pillow's time. OpenCV fills the missing
    part of a cut JPEG with gray and says nothing, so everything else goes through Pillow, which raises. What no decoder
    can see is damage inside a JPEG whose end is in place.

    Args:
        path: A JPEG, PNG, BMP, WebP, TIFF or GIF (first frame) file. Gray, palette, CMYK and 16-bit images become 8-bit
            RGB, transparency is dropped, the orientation in the EXIF data is applied.

    Returns:
        The image, (H, W, 3) uint8, RGB, contiguous.

    Raises:
        FileNotFoundError: No such file.
        ValueError: The path is a folder, or the file is empty, cut, damaged, not an image, or larger than `MAX_PIXELS`.
    """
    data = _read(path)
    if not data:
        raise _broken(path, "the file is empty")
    pixels = _pixels_if_whole(data)
    if pixels > MAX_PIXELS:
        raise _oversize(path, pixels)
    if pixels:
        image = _fast(data)
        if image is not None:
            return image
    return _strict(path, data)


def _read(path: str | Path) -> bytes:
    try:
        with io.FileIO(path) as file:  # unbuffered, and half the time of Path.open
            return file.read()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"There is no image {str(path)!r}. Check data.root, or correct the list that names this file."
        ) from None
    except IsADirectoryError:
        raise ValueError(f"{str(path)!r} is a folder; an image file is needed.") from None


def _pixels_if_whole(data: bytes) -> int:
    """Returns the number of pixels of a gray or RGB JPEG or PNG that ends as it should, 0 for anything else."""
    if data.startswith(_JPEG_START) and data.endswith(_JPEG_END):
        return _jpeg_pixels(data)
    if data.startswith(_PNG_START) and data.endswith(_PNG_END):
        return int.from_bytes(data[16:20], "big") * int.from_bytes(data[20:24], "big")
    return 0


def _jpeg_pixels(data: bytes) -> int:
    """Returns height x width from a JPEG's frame header, 0 where that is missing or tells of CMYK."""
    position = 2
    while position + 10 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker < 0xC0 or 0xD0 <= marker <= 0xDA or marker == 0xFF:  # no segment with a length: let Pillow see to it
            return 0
        if marker in _FRAMES:
            if data[position + 9] == 4:  # Pillow knows Adobe's inverted CMYK
                return 0
            height = data[position + 5] << 8 | data[position + 6]
            return height * (data[position + 7] << 8 | data[position + 8])
        position += 2 + (data[position + 2] << 8 | data[position + 3])
    return 0


def _fast(data: bytes) -> np.ndarray[Any, Any] | None:
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error:
        return None  # Pillow will say what is wrong


def _strict(path: str | Path, data: bytes) -> np.ndarray[Any, Any]:
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as file:
            pixels = file.width * file.height
            if pixels <= MAX_PIXELS:
                file.load()
                image = np.array(_eight_bit(ImageOps.exif_transpose(file)).convert("RGB"))
    except Image.DecompressionBombError:
        raise _oversize(path, None) from None
    except UnidentifiedImageError:
        raise _broken(path, "it is in no known image format") from None
    except Exception as error:  # Pillow's plugins raise whatever a damaged header leads to
        raise _broken(path, str(error)) from error
    if pixels > MAX_PIXELS:
        raise _oversize(path, pixels)
    # Pillow reads a lost end that was filled with zeros as if it were picture. A whole file has its end-of-image marker
    # after the last scan, whatever was appended to it.
    if data.startswith(_JPEG_START) and data.rfind(_JPEG_END) < data.rfind(_JPEG_SCAN):
        raise _broken(path, "the end of the JPEG data is missing")
    return image


def _eight_bit(image: Image.Image) -> Image.Image:
    """Scales 16-bit gray to 8 bits, which Pillow would clip."""
    if image.mode == "F":
        raise ValueError("its values are floating-point numbers of unknown range")
    if image.mode.startswith("I"):
        return Image.fromarray((np.clip(np.asarray(image), 0, 65535) >> 8).astype(np.uint8))
    return image


def _broken(path: str | Path, reason: str) -> ValueError:
    return ValueError(
        f"Cannot read {str(path)!r} as an image: {reason}. Replace the file or take it out of the data set; "
        "`reidlit doctor` finds all such files beforehand."
    )


def _oversize(path: str | Path, pixels: int | None) -> ValueError:
    size = "more pixels than Pillow's own limit" if pixels is None else f"{pixels} pixels"
    return ValueError(
        f"{str(path)!r} has {size}; at most {MAX_PIXELS} are allowed, to keep decompression bombs out. "
        "Crop or shrink the image."
    )
