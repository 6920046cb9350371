"""Former names of dataset attributes, supported for one release with a warning."""

import warnings
from typing import Any


class FormerName:
    """Descriptor that returns a renamed attribute and issues a warning."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __set_name__(self, owner: type, former: str) -> None:
        self.former = former

    def __get__(self, instance: Any, owner: type) -> Any:
        warnings.warn(f"{self.former} is deprecated; use {self.name}.", FutureWarning, stacklevel=2)
        return getattr(owner if instance is None else instance, self.name)


def adopt_former_names(cls: type, base: type) -> None:
    """Set the attributes that a class declares under the former names in `base`, and warn about each."""
    for attribute in vars(base).values():
        if isinstance(attribute, FormerName) and attribute.former in vars(cls):
            text = f"{cls.__qualname__}.{attribute.former} is deprecated; rename it to {attribute.name}."
            warnings.warn(text, FutureWarning, stacklevel=3)
            setattr(cls, attribute.name, vars(cls)[attribute.former])
