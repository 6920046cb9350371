"""reidlit.inference."""
