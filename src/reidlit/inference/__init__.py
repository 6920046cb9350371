"""Inference with trained models: feature extraction, calibration, profiling and gallery search."""
