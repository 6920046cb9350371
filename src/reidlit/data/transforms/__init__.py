"""Augmentations of the re-ID papers that albumentations lacks, and reproducible pipelines, for uint8 images."""

from reidlit.data.transforms.geometry import PadCrop, Random2DTranslation, Resize, resize
from reidlit.data.transforms.occlusion import RandomErasing, RandomPatch
from reidlit.data.transforms.pipeline import Pipeline, Step, select
from reidlit.data.transforms.step import Array, Donor, ImageStep, check_image

__all__ = [
    "Array",
    "Donor",
    "ImageStep",
    "PadCrop",
    "Pipeline",
    "Random2DTranslation",
    "RandomErasing",
    "RandomPatch",
    "Resize",
    "Step",
    "check_image",
    "resize",
    "select",
]
