"""Translation of Torchreid settings to overrides of reidlit."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reidlit.compat.torchreid.settings import Compose, Outcome, Row, Settings, read_settings
from reidlit.compat.torchreid.settings_table import DML, DML_DEFAULTS, OSNET_AIN, TABLE


def complete_settings(arguments: Sequence[str], compose: Compose) -> Settings:
    """Read settings like `read_settings` and add Torchreid's defaults."""
    given = read_settings(arguments, TABLE)
    given |= {TABLE[name].needs[0]: True for name in given if TABLE[name].needs in (DML, OSNET_AIN)}
    defaults = {name: row.default for name, row in TABLE.items()}
    changed = frozenset(name for name, value in given.items() if value != defaults[name])
    values = defaults | (DML_DEFAULTS if "projects/DML" in given else {}) | given
    return Settings(values, frozenset(given), changed, compose)


def translate(settings: Settings) -> tuple[str, dict[str, Any], list[str]]:
    """Return the command, its overrides by key, and remarks on what differs or has no counterpart.

    Raises:
        ValueError: If Torchreid refuses the settings, or a model or dataset does not exist.
    """
    command = "test" if settings["test.evaluate"] else "train"
    rows = {name: row for name, row in TABLE.items() if command in row.commands}
    read = {name: row for name, row in rows.items() if not row.needs or _holds(row.needs, settings)}
    rules = dict.fromkeys(row.becomes for row in read.values() if callable(row.becomes))  # each once
    outcomes = [outcome for rule in rules for outcome in rule(settings)]
    outcomes += [outcome for name, row in read.items() for outcome in _direct_overrides(name, row, settings)]
    remarks = [outcome for outcome in outcomes if isinstance(outcome, str)]
    remarks += [f"{name}: {row.remark}" for name, row in read.items() if row.remark and name in settings.changed]
    for name, row in rows.items():
        if name in settings.changed and name not in read:
            remarks.append(f"{name}: not used by Torchreid, as {row.needs[0]} is {settings[row.needs[0]]}.")
    return command, dict(outcome for outcome in outcomes if isinstance(outcome, tuple)), remarks


def _holds(needs: tuple[Any, ...], settings: Settings) -> bool:
    other, *values = needs
    return settings[other] in values if values else bool(settings[other])


def _direct_overrides(name: str, row: Row, settings: Settings) -> Iterator[Outcome]:
    if isinstance(row.becomes, Mapping):
        yield from row.becomes.get(settings[name], {}).items()
    elif isinstance(row.becomes, str) and (name in settings.given or not row.only_given):
        yield row.becomes, settings[name]
