"""reidlit.data."""
