"""Datasets, decoding, augmentation and batches."""

import os

# Without this, albumentations checks for updates over the network at each import, also in workers.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
