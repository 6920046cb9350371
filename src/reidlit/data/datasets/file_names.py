"""File names from which datasets read identities and cameras."""

import re
from pathlib import Path


class FileName:
    """Pattern of the file names of a dataset.

    Args:
        dataset: Name of the dataset as its authors write it, for messages.
        example: A valid name, for messages.
        pattern: Regular expression that matches the beginning of a name; its groups are numbers.
    """

    def __init__(self, dataset: str, example: str, pattern: str) -> None:
        self.dataset = dataset
        self.example = example
        self.pattern = re.compile(pattern, re.ASCII)

    def numbers(self, path: Path, remedy: str = "Rename or remove it") -> list[int]:
        """Return the numbers in the name of a file; the names of its folders are not read.

        Raises:
            ValueError: If the name does not match.
        """
        match = self.pattern.match(path.name)
        if match is None:
            raise self.mismatch(path, remedy)
        return [int(group) for group in match.groups()]

    def mismatch(self, path: Path, remedy: str = "Rename or remove it") -> ValueError:
        """Return the error for a file whose name is not valid."""
        return ValueError(f"{path} is not named as {self.dataset}'s images are ({self.example}). {remedy}.")
