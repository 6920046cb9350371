"""Images and functions shared by the transform tests."""

import cv2
import numpy as np

from reidlit.data.transforms import Pipeline

RNG = np.random.default_rng(0)
# Blurred noise is as difficult for a resizing filter as a photograph.
IMAGE = cv2.GaussianBlur(RNG.integers(0, 256, (128, 64, 3), np.uint8), (0, 0), 1.0)
OTHER = np.full((90, 40, 3), 200, np.uint8)
RAMP = np.stack(
    [np.arange(256)[:, None] + np.zeros((1, 128)), np.zeros((256, 1)) + np.arange(128), np.full((256, 128), 9)], -1
)
RAMP = RAMP.astype(np.uint8)  # the first two values of a pixel are its coordinates


def donor(rng):
    return np.full((90, 40, 3), rng.randrange(1, 256), np.uint8)


def applied_params(transform, count, image=RAMP):
    """Apply a transform with the seeds 0 to count - 1; return its parameters, None where it was not applied."""
    pipeline = Pipeline([transform])
    params = []
    for seed in range(count):
        pipeline(image, seed, donor)
        params.append(pipeline.transforms[0].get_applied_params() or None)
    return params
