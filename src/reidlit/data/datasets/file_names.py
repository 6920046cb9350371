"""File names that contain identity and camera numbers."""

import re
from pathlib import Path


class FileName:
    """Pattern of the file names of a dataset.

    Args:
        dataset: Name of the dataset as spelled by its authors, for messages.
        example: A valid name, for messages.
        pattern: Regular expression that matches the beginning of a name; its groups match numbers.
    """

    def __init__(self, dataset: str, example: str, pattern: str) -> None:
        self.dataset = dataset
        self.example = example
        self.pattern = re.compile(pattern, re.ASCII)

    def numbers(self, path: Path, remedy: str = "Rename or remove it") -> list[int]:
        """Return the numbers in a file name, ignoring the names of its folders.

        Args:
            path: Path of the file.
            remedy: Sentence without its full stop that tells the user what to do, for the message.

        Raises:
            ValueError: If the name does not match the pattern.
        """
        match = self.pattern.match(path.name)
        if match is None:
            raise self.mismatch(path, remedy)
        return [int(group) for group in match.groups()]

    def mismatch(self, path: Path, remedy: str = "Rename or remove it") -> ValueError:
        """Return the error for an invalid file name."""
        return ValueError(
            f"{path} is not a valid {self.dataset} name: expected a name such as {self.example}. {remedy}."
        )
