"""`python -m reidlit` is the command `reidlit`."""

from reidlit.cli import main

main()
