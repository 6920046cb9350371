"""Entry point of `python -m reidlit`."""

from reidlit.cli import main

main()
