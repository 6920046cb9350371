"""Faces made unrecognisable, for pictures that others will see."""

import cv2

from reidlit.data.images import Array, Read

BLOCKS = 4  # across the blurred part: what is left says nothing of a face


def blurred(image: Array, share: float = 0.22) -> Array:
    """Replace the top of a person's crop, where the head is, by a few soft blocks of its colours.

    A face in such a crop has some ten pixels, which detectors miss; the head's place is known, for a crop is a person.

    Args:
        image: (H, W, 3) uint8.
        share: of the height.

    Returns:
        A copy.

    Raises:
        ValueError: if the share is not above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share={share} must be above 0 and at most 1.")
    found = image.copy()
    height, width = max(1, round(share * image.shape[0])), image.shape[1]
    small = cv2.resize(image[:height], (BLOCKS, max(1, BLOCKS // 2)), interpolation=cv2.INTER_AREA)
    found[:height] = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    return found


def blurring(read: Read) -> Read:
    """A reader of images that blurs what another reads."""
    return lambda path: blurred(read(path))
