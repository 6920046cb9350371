"""What datasets bring in MATLAB files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat

Array = NDArray[Any]


def read_mat(file: Path, names: Sequence[str] | None = None) -> dict[str, Any]:
    """Read variables of a MATLAB file up to version 7.2, by name; no code in it runs.

    Args:
        file: the file.
        names: those that must be there; `None` for whatever is there.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read, or lacks a variable.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist.")
    try:
        content = loadmat(file, variable_names=None if names is None else list(names))
    except Exception as error:
        # A damaged file raises whatever its bytes happen to trigger.
        reason = (str(error) or repr(error)).split("\n")[0]
        raise ValueError(f"{file} is no readable MATLAB file ({reason}). Get it again from its authors.") from error
    if missing := [name for name in names or () if name not in content]:
        raise ValueError(f"{file} lacks the variables {missing}. Get it again from its authors.")
    return {name: value for name, value in content.items() if not name.startswith("__")}


def strings(cells: Any) -> list[str]:
    """The strings of a cell array of any shape, in MATLAB's order.

    Raises:
        ValueError: if a cell holds anything else.
    """
    listed = [np.asarray(cell) for cell in np.asarray(cells).ravel(order="F")]
    if other := next((cell for cell in listed if cell.dtype.kind != "U" or cell.size != 1), None):
        raise ValueError(f"a cell array of strings holds {str(other)[:50]!r}")
    return [str(cell.item()) for cell in listed]
