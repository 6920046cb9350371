"""Label values shared by data, metrics and search."""

UNKNOWN = -1  # unknown identity, camera or attribute label
