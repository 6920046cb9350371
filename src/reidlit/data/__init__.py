"""Datasets, decoding, augmentation and batches."""

import os

# albumentations else asks the network for its newest version, at every import and in every worker.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
