"""Translation of Torchreid settings to overrides of reidlit."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reidlit.compat.torchreid.settings import Compose, Outcome, Row, Settings, read_settings
from reidlit.compat.torchreid.settings_table import DML, DML_DEFAULTS, OSNET_AIN, TABLE


def complete_settings(arguments: Sequence[str], compose: Compose) -> Settings:
    """Read settings with `read_settings` and add Torchreid's defaults."""
    explicit = read_settings(arguments, TABLE)
    explicit |= {TABLE[name].needs[0]: True for name in explicit if TABLE[name].needs in (DML, OSNET_AIN)}
    defaults = {name: row.default for name, row in TABLE.items()}
    changed = frozenset(name for name, value in explicit.items() if value != defaults[name])
    values = defaults | (DML_DEFAULTS if "projects/DML" in explicit else {}) | explicit
    return Settings(values, frozenset(explicit), changed, compose)


def translate(settings: Settings) -> tuple[str, dict[str, Any], list[str]]:
    """Translate settings to a command, its overrides by key, and remarks on differences and missing counterparts.

    Raises:
        ValueError: If Torchreid would reject the settings, or a model or dataset does not exist.
    """
    command = "test" if settings["test.evaluate"] else "train"
    rows = {name: row for name, row in TABLE.items() if command in row.commands}
    active_rows = {name: row for name, row in rows.items() if not row.needs or _holds(row.needs, settings)}
    unique_rules = dict.fromkeys(row.becomes for row in active_rows.values() if callable(row.becomes))
    outcomes = [outcome for rule in unique_rules for outcome in rule(settings)]
    outcomes += [outcome for name, row in active_rows.items() for outcome in _direct_overrides(name, row, settings)]
    remarks = [outcome for outcome in outcomes if isinstance(outcome, str)]
    remarks += [f"{name}: {row.remark}" for name, row in active_rows.items() if row.remark and name in settings.changed]
    for name, row in rows.items():
        if name in settings.changed and name not in active_rows:
            remarks.append(f"{name}: not used by Torchreid, because {row.needs[0]} is {settings[row.needs[0]]}.")
    return command, dict(outcome for outcome in outcomes if isinstance(outcome, tuple)), remarks


def _holds(needs: tuple[Any, ...], settings: Settings) -> bool:
    other, *values = needs
    return settings[other] in values if values else bool(settings[other])


def _direct_overrides(name: str, row: Row, settings: Settings) -> Iterator[Outcome]:
    if isinstance(row.becomes, Mapping):
        yield from row.becomes.get(settings[name], {}).items()
    elif isinstance(row.becomes, str) and (name in settings.explicit or not row.only_explicit):
        yield row.becomes, settings[name]
