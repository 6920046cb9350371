"""Entry point of `python -m reidlit`."""

import sys
from pathlib import Path

if sys.path and Path(sys.path[0] or ".").resolve() == Path.cwd():
    del sys.path[0]  # put there by `python -m`; modules in the current folder must not shadow installed packages

from reidlit.cli import main

main()
