"""`reidlit prepare`: fetch a dataset's archive, unpack it where the others look for it, and verify it."""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from reidlit.commands._data import build_datamodule
from reidlit.console import say
from reidlit.data.archive import unpack
from reidlit.data.datamodule import ReIDDataModule, Statistics
from reidlit.data.download import fetch, file_name


def run(cfg: DictConfig) -> None:
    """Fetch and unpack what is asked for, and compare the splits with the published statistics.

    Raises:
        ConnectionError: if an archive cannot be fetched.
        FileNotFoundError: if neither an archive nor the unpacked dataset is there.
        ValueError: if the archive is damaged, may not be fetched by everybody, or the splits are not as published.
    """
    datamodule = build_datamodule(cfg)
    for part, archive in _archives(cfg, datamodule):
        say(f"unpacking {archive} into {part.directory}")
        unpack(archive, part.directory)
    datamodule.prepare_data()
    rows = _verified(datamodule)
    Console().print(_table(f"{datamodule.name} in {datamodule.directory}", rows, datamodule.item_name))
    for part in datamodule.parts:
        if part.split_path:
            say(f"{part.name}: the split is kept in {part.split_path}")
    say(_about(datamodule.parts))
    if wrong := [split for split, found, published in rows if published and not found.agrees(published)]:
        raise ValueError(
            f"data={datamodule.name}: {', '.join(wrong)} is not as published; the archive is incomplete or altered. "
            "Get it again from its authors."
        )


def _archives(cfg: DictConfig, datamodule: ReIDDataModule) -> list[tuple[ReIDDataModule, str | Path]]:
    """What is to be unpacked for which dataset, fetched where that is asked for."""
    if not isinstance(cfg.download, bool):
        raise ValueError(f"download={cfg.download} must be true or false.")
    if cfg.archive and cfg.download:
        raise ValueError(f"archive={cfg.archive} and download=true: give one of them.")
    if cfg.archive:
        if not datamodule.folder:
            raise ValueError(
                f"archive={cfg.archive} cannot be unpacked for data={datamodule.name}, which has no archive of its own. "
                "Prepare each dataset by itself; your own images lie where you put them."
            )
        address = "://" in str(cfg.archive)
        return [(datamodule, _fetched(str(cfg.archive), datamodule) if address else str(cfg.archive))]
    if cfg.download:
        for part in datamodule.parts:
            if part.url is None:
                raise ValueError(
                    f"download=true: nobody gives {part.name} to everybody. {part.how_to_obtain} Then run "
                    f"`reidlit prepare data={part.name} archive=<file>`."
                )
        return [(part, _fetched(part.url, part)) for part in datamodule.parts if part.url]
    return []


def _fetched(url: str, datamodule: ReIDDataModule) -> Path:
    target = datamodule.root / "archives" / file_name(url)
    say(f"fetching {url} to {target}")
    fetch(url, target, datamodule.sha256 if url == datamodule.url else None)
    return target


def _verified(datamodule: ReIDDataModule) -> list[tuple[str, Statistics, Statistics | None]]:
    """Each split's size, or an error that says where the dataset is to be had."""
    try:
        return datamodule.verify()
    except FileNotFoundError as error:
        missing = "" if datamodule.how_to_obtain in str(error) else f" {datamodule.how_to_obtain}"
        raise FileNotFoundError(f"{error}{missing}") from error


def _table(title: str, rows: Sequence[tuple[str, Statistics, Statistics | None]], unit: str) -> Table:
    table = Table(title=title)
    for heading in ("split", "identities", unit, "cameras", "published"):
        table.add_column(heading, justify="left" if heading == "split" else "right")
    for split, found, published in rows:
        verdict = "-"
        if published:
            verdict = "as published" if found.agrees(published) else " / ".join(str(n or "?") for n in published)
        table.add_row(split, *map(str, found), verdict)
    return table


def _about(parts: Sequence[ReIDDataModule]) -> str:
    """What users of these data must know; of which they are it is said where they are several."""
    lines = []
    for part in parts:
        origin = f"{part.name}: " if len(parts) > 1 else ""
        facts = (part.usage_notice, f"licence: {part.licence}", f"paper: {part.paper}")
        lines += [origin + fact for fact in facts if fact]
    return "\n".join(lines)
