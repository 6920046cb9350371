"""What a rule makes of Torchreid's settings: an override of ours, or a remark."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from reidlit.compat.torchreid.settings import Settings


class Override(NamedTuple):
    """A choice or a setting of ours.

    Attributes:
        key: A group of conf/, such as `model`, or a dotted setting.
        value: Its value.
        always: Whether to print it even where it is ours already, because that depends on the machine.
    """

    key: str
    value: Any
    always: bool = False


class Remark(NamedTuple):
    """What differs or has no counterpart, and why, in one or two sentences."""

    text: str


Found = Iterator[Override | Remark]
Rule = Callable[[Settings], Found]


def idle(settings: Settings, names: Iterable[str], because: str) -> Found:
    """A remark on those settings that are changed although they have no effect."""
    changed = [name for name in names if settings.changed(name)]
    if changed:
        yield Remark(f"{', '.join(changed)}: no effect in Torchreid, {because}.")
