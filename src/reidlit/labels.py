"""Label values shared by data, metrics and search."""

UNKNOWN = -1  # identity, camera or attribute label that is not known
