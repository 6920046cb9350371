"""Blurring of faces in images of persons."""

import cv2

from reidlit.data.images import Array, Read

BLOCKS = 4  # horizontal resolution of the blurred region in blocks; too low to recognize a face


def blurred(image: Array, fraction: float = 0.22) -> Array:
    """Blur the top of an image of a person, where the head is.

    Faces in such images are about ten pixels wide, too small for face detectors, but the position of the head is known.

    Args:
        image: (H, W, 3) uint8 image.
        fraction: Fraction of the height that is blurred.

    Returns:
        A blurred copy.

    Raises:
        ValueError: If `fraction` is not in (0, 1].
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction={fraction} is invalid: must be greater than 0 and at most 1.")
    result = image.copy()
    height, width = max(1, round(fraction * image.shape[0])), image.shape[1]
    small = cv2.resize(image[:height], (BLOCKS, max(1, BLOCKS // 2)), interpolation=cv2.INTER_AREA)
    result[:height] = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    return result


def blurring(read: Read) -> Read:
    """Return a reader that blurs the images of another reader."""
    return lambda path: blurred(read(path))
