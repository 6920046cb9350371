"""Decoding of image files to RGB arrays. Corrupt files raise an error."""

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

# A person crop has 10^4 to 10^6 pixels. A file with more than 2^26 (8192 x 8192, 200 MB decoded) is a mistake or an attack.
MAX_PIXELS = 2**26

# Pillow supports dozens of formats and runs Ghostscript for one of them. Only these are accepted.
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF")

_JPEG_START = b"\xff\xd8"
_JPEG_SCAN = b"\xff\xda"
_JPEG_END = b"\xff\xd9"
_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND\xaeB`\x82"
# Start-of-frame markers, which contain the size: C0 to CF without DHT (C4), JPG (C8) and DAC (CC).
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def decode(path: str | Path) -> np.ndarray[Any, Any]:
    """Read an image file.

    OpenCV decodes complete RGB and gray JPEG and PNG files, in half of Pillow's time. It silently fills the missing part of a
    truncated JPEG with gray, so Pillow, which raises an error, decodes all other files. No decoder detects damage inside a JPEG
    that has its end marker.

    Args:
        path: Path of a JPEG, PNG, BMP, WebP, TIFF or GIF (first frame) file. Gray, palette, CMYK and 16-bit images become 8-bit
            RGB. Transparency is dropped, and the EXIF orientation is applied.

    Returns:
        (H, W, 3) uint8 RGB image, contiguous.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the path is a folder, or the file is empty, truncated, damaged, not an image, or has more than
            `MAX_PIXELS` pixels.
    """
    data = _read(path)
    if not data:
        raise _broken(path, "the file is empty")
    pixels = _pixels_if_complete(data)
    if pixels > MAX_PIXELS:
        raise _oversize(path, pixels)
    if pixels:
        image = _fast(data)
        if image is not None:
            return image
    return _strict(path, data)


def _read(path: str | Path) -> bytes:
    try:
        with io.FileIO(path) as file:  # unbuffered: half the time of Path.open
            return file.read()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"Image {str(path)!r} does not exist. Check data.root, or correct the list that contains this file."
        ) from None
    except IsADirectoryError:
        raise ValueError(f"{str(path)!r} is a folder: must be an image file.") from None


def _pixels_if_complete(data: bytes) -> int:
    """Return the number of pixels of a gray or RGB JPEG or PNG that has its end marker, 0 for all other data."""
    if data.startswith(_JPEG_START) and data.endswith(_JPEG_END):
        return _jpeg_pixels(data)
    if data.startswith(_PNG_START) and data.endswith(_PNG_END):
        return int.from_bytes(data[16:20], "big") * int.from_bytes(data[20:24], "big")
    return 0


def _jpeg_pixels(data: bytes) -> int:
    """Return height x width from the frame header of a JPEG, 0 if it is missing or the image is CMYK."""
    position = 2
    while position + 10 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker < 0xC0 or 0xD0 <= marker <= 0xDA or marker == 0xFF:  # not a segment with a length: leave it to Pillow
            return 0
        if marker in _FRAMES:
            if data[position + 9] == 4:  # only Pillow handles Adobe's inverted CMYK
                return 0
            height = data[position + 5] << 8 | data[position + 6]
            return height * (data[position + 7] << 8 | data[position + 8])
        position += 2 + (data[position + 2] << 8 | data[position + 3])
    return 0


def _fast(data: bytes) -> np.ndarray[Any, Any] | None:
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error:
        return None  # Pillow reports the reason


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
        raise _broken(path, "its image format is unknown") from None
    except Exception as error:  # Pillow's plugins raise many types of errors for damaged headers
        raise _broken(path, str(error)) from error
    if pixels > MAX_PIXELS:
        raise _oversize(path, pixels)
    # If the end of the file was overwritten with zeros, Pillow decodes them as image data. A complete file has its
    # end-of-image marker after the last scan, even if other data follows.
    if data.startswith(_JPEG_START) and data.rfind(_JPEG_END) < data.rfind(_JPEG_SCAN):
        raise _broken(path, "the end of the JPEG data is missing")
    return image


def _eight_bit(image: Image.Image) -> Image.Image:
    """Scale 16-bit gray to 8 bits, because Pillow would clip it."""
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of unknown range")
    if image.mode.startswith("I"):
        return Image.fromarray((np.clip(np.asarray(image), 0, 65535) >> 8).astype(np.uint8))
    return image


def _broken(path: str | Path, reason: str) -> ValueError:
    return ValueError(
        f"Cannot read {str(path)!r} as an image: {reason}. Replace the file or remove it from the dataset; "
        "`reidlit doctor` lists all unreadable images."
    )


def _oversize(path: str | Path, pixels: int | None) -> ValueError:
    size = "more pixels than Pillow's limit" if pixels is None else f"{pixels} pixels"
    return ValueError(
        f"{str(path)!r} has {size}: at most {MAX_PIXELS} are allowed, to protect against decompression bombs. Crop or shrink "
        "the image."
    )
