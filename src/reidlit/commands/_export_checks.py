"""Comparison of an exported file with the model."""

from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from reidlit.data.splits import EvalSet
from reidlit.export.formats import EmbedImages
from reidlit.export.parity import Difference
from reidlit.inference.backends import FileBackend
from reidlit.inference.extractor import FeatureExtractor
from reidlit.inference.loading import TrainedModel
from reidlit.metrics import evaluate

LIMITS = {
    "fp32": (1e-4, 0.9999),
    "fp16": (0.02, 0.999),
    "int8": (float("inf"), 0.9),
}  # largest difference, smallest cosine


def check_difference(cfg: DictConfig, path: Path, difference: Difference) -> None:
    """Compare the differences of the embeddings with their limits.

    Raises:
        ValueError: If the embeddings of the file differ from those of the model by more than a limit.
    """
    largest, cosine = LIMITS[cfg.precision]
    largest = largest if cfg.max_difference is None else cfg.max_difference
    cosine = cosine if cfg.min_cosine is None else cfg.min_cosine
    if difference.largest > largest or difference.cosine < cosine:
        raise ValueError(
            f"{path} was not written because it differs from the model: largest difference {difference.largest:.2g} "
            f"(max_difference={largest:g}), smallest cosine {difference.cosine:.5f} (min_cosine={cosine:g})."
        )


def check_mean_ap(
    cfg: DictConfig, path: Path, test_set: EvalSet, trained: TrainedModel, model: EmbedImages, file: EmbedImages
) -> str:
    """Return the mAP of the model and of the file in percent, as text.

    Raises:
        ValueError: If the file loses more than `max_mAP_loss`.
    """
    before, after = mean_ap(test_set, trained, model), mean_ap(test_set, trained, file)
    if before - after > cfg.max_mAP_loss:
        raise ValueError(
            f"{path} was not written because its mAP is {100 * after:.2f}%, but the model's is {100 * before:.2f}% "
            f"(max_mAP_loss={cfg.max_mAP_loss:g})."
        )
    return f"{100 * before:.2f} to {100 * after:.2f}"


def mean_ap(test_set: EvalSet, trained: TrainedModel, embed: EmbedImages) -> float:
    """Return the mAP of `embed` on a test set."""
    extractor = FeatureExtractor(trained=trained, device="cpu")
    extractor.backend = FileBackend(embed)
    embeddings = [extractor([str(sample.path) for sample in samples]) for samples in test_set]
    labels = [np.array([getattr(s, name) for s in samples]) for name in ("pid", "camid") for samples in test_set]
    return evaluate(*embeddings, *labels).mAP
