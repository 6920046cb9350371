"""Decoding of all supported formats; corrupt files raise an error."""

import io
import re

import cv2
import numpy as np
import pytest
from PIL import Image

from reidlit.data.decode import MAX_PIXELS, decode

# Smooth, so that lossy formats are accurate, and different in every corner and channel
ROWS, COLUMNS = np.mgrid[0:64, 0:48]
PIXELS = np.stack([ROWS * 4, COLUMNS * 5, 255 - ROWS * 2 - COLUMNS], axis=-1).clip(0, 255).astype(np.uint8)
PICTURE = Image.fromarray(PIXELS)
GRAY = np.asarray(PICTURE.convert("L"))


def encoded(picture, file_format, **options):
    buffer = io.BytesIO()
    picture.save(buffer, file_format, **options)
    return buffer.getvalue()


JPEG = encoded(PICTURE, "JPEG", quality=95)
NOISE = np.random.default_rng(0).integers(0, 256, (64, 48, 3), np.uint8)
NOISY_JPEG = encoded(Image.fromarray(NOISE), "JPEG", quality=95)
PNG = encoded(PICTURE, "PNG")
NOISY_PNG = encoded(Image.fromarray(NOISE), "PNG")


@pytest.fixture
def written(tmp_path):
    def write(data):
        path = tmp_path / "image.jpg"  # the format follows from the content, not from the name
        path.write_bytes(data)
        return path

    return write


def assert_near(image, expected, tolerance):
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).mean() <= tolerance


@pytest.mark.parametrize(
    ("data", "tolerance"),
    [
        (JPEG, 3),
        (encoded(PICTURE, "JPEG", quality=95, progressive=True), 3),
        (JPEG + b"appended by a camera", 3),
        (encoded(PICTURE.convert("CMYK"), "JPEG", quality=95), 3),
        (PNG, 0),
        (encoded(PICTURE.convert("RGBA"), "PNG"), 0),
        (encoded(PICTURE.quantize(256), "PNG"), 12),
        (encoded(PICTURE.quantize(256), "GIF"), 12),
        (encoded(PICTURE, "BMP"), 0),
        (encoded(PICTURE, "TIFF"), 0),
        (encoded(PICTURE, "WEBP", lossless=True), 0),
        (cv2.imencode(".png", PIXELS[..., ::-1].astype(np.uint16) * 257)[1].tobytes(), 0),
    ],
    ids=["jpeg", "progressive", "appended", "cmyk", "png", "rgba", "palette", "gif", "bmp", "tiff", "webp", "16 bits"],
)
def test_formats_become_rgb(written, data, tolerance):
    assert_near(decode(written(data)), PIXELS, tolerance)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "BMP"])
def test_gray_becomes_rgb(written, file_format):
    assert_near(decode(written(encoded(PICTURE.convert("L"), file_format))), np.stack([GRAY] * 3, -1), 2)


@pytest.mark.parametrize("tail", [b"", b"strict"])
@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_sixteen_bit_gray_is_scaled(written, file_format, tail):
    deep = Image.fromarray(GRAY.astype(np.uint16) * 257)
    assert_near(decode(written(encoded(deep, file_format) + tail)), np.stack([GRAY] * 3, -1), 0)


@pytest.mark.parametrize("tail", [b"", b"strict"])
@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(written, file_format, orientation, tail):
    exif = Image.Exif()
    exif[0x0112] = orientation
    k = {1: 0, 2: 0, 3: 2, 4: 2, 5: 3, 6: 3, 7: 1, 8: 1}[
        orientation
    ]  # EXIF standard: rotate by k quarter turns, then mirror
    expected = np.rot90(PIXELS, k)
    if orientation in {2, 4, 5, 7}:
        expected = expected[:, ::-1]
    assert_near(decode(written(encoded(PICTURE, file_format, quality=95, exif=exif) + tail)), expected, 3)


def test_pixels_match_pillow(written):
    assert_near(decode(written(NOISY_JPEG)), np.asarray(Image.open(io.BytesIO(NOISY_JPEG)).convert("RGB")), 0.01)


def cut(data, fraction):
    return data[: int(len(data) * fraction)]


BROKEN = {
    "empty": b"",
    "text": b"P. Smith, camera 3\n",
    "html": b"<html><body>404</body></html>",
    "start of a jpeg": JPEG[:2],
    "no jpeg data": JPEG[:2] + JPEG[-2:],
    **{f"jpeg cut at {fraction}": cut(NOISY_JPEG, fraction) for fraction in (0.1, 0.3, 0.5, 0.9, 0.99)},
    "jpeg without its last byte": NOISY_JPEG[:-1],
    "jpeg with its end overwritten by zeros": cut(NOISY_JPEG, 0.5) + bytes(len(NOISY_JPEG) // 2),
    **{f"png cut at {fraction}": cut(NOISY_PNG, fraction) for fraction in (0.1, 0.5, 0.9)},
    "png with a part missing": cut(PNG, 0.5) + PNG[-12:],
    "png with a changed byte": cut(PNG, 0.5) + bytes([PNG[len(PNG) // 2] ^ 255]) + PNG[len(PNG) // 2 + 1 :],
    "bmp": cut(encoded(PICTURE, "BMP"), 0.5),
    "webp": cut(encoded(Image.fromarray(NOISE), "WEBP", lossless=True), 0.5),
    "float": encoded(Image.fromarray(GRAY.astype(np.float32)), "TIFF"),
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
def test_broken(written, data):
    path = written(data)
    with pytest.raises(ValueError, match=re.escape(repr(str(path)))):
        decode(path)


def test_jpegs_cut_anywhere(written):
    """OpenCV alone accepts most of these."""
    for length in range(0, len(NOISY_JPEG) - 1, 211):
        with pytest.raises(ValueError, match=r"image\.jpg'"):
            decode(written(NOISY_JPEG[:length]))


def with_jpeg_size(height, width):
    position = JPEG.index(b"\xff\xc0") + 5
    return JPEG[:position] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + JPEG[position + 4 :]


def with_png_size(height, width):
    return PNG[:16] + width.to_bytes(4, "big") + height.to_bytes(4, "big") + PNG[24:]


@pytest.mark.parametrize("tail", [b"", b"strict"])
@pytest.mark.parametrize(
    "data", [with_jpeg_size(65280, 65280), with_jpeg_size(8192, 8193), with_png_size(60000, 60000)]
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bombs(written, data, tail):
    with pytest.raises(ValueError, match=rf"\b{MAX_PIXELS}\b|image format"):
        decode(written(data + tail))


def test_bomb_behind_fill_bytes(written):
    """Decoders skip FF bytes before a marker; parsed as a segment, they would lead to a header with a harmless size."""
    data = with_jpeg_size(9000, 9000)
    position = data.index(b"\xff\xc0")
    data = data[:position] + b"\xff\xff" + data[position:]
    data += bytes(position + 2 + 0xFFC0 - len(data)) + JPEG[JPEG.index(b"\xff\xc0") :]
    with pytest.raises(ValueError, match=rf"\b81000000\b.*\b{MAX_PIXELS}\b"):
        decode(written(data))


@pytest.mark.parametrize("convert", [str, lambda path: path])
def test_missing_file_is_rejected(tmp_path, convert):
    with pytest.raises(FileNotFoundError, match=r"absent\.jpg.*data\.root"):
        decode(convert(tmp_path / "absent.jpg"))


def test_folder_is_rejected(tmp_path):
    with pytest.raises(ValueError, match=re.escape(repr(str(tmp_path)))):
        decode(tmp_path)
