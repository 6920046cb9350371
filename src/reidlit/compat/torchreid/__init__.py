"""Translation of Torchreid configurations and weight names."""
