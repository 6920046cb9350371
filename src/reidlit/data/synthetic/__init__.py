"""Generator of synthetic pedestrians for demos and tests."""
