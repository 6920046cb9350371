"""`reidlit prepare`: download the archive of a dataset, unpack it into the data folder, and verify it."""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig
from rich.table import Table

from reidlit.commands._data import build_datamodule
from reidlit.console import say, show
from reidlit.data.archive import unpack
from reidlit.data.datamodule import ReIDDataModule, Statistics
from reidlit.data.download import fetch, file_name


def run(cfg: DictConfig) -> None:
    """Download and unpack the archives, and compare the splits with the published statistics.

    Raises:
        ConnectionError: If an archive cannot be downloaded.
        FileNotFoundError: If neither the archive nor the unpacked dataset exists.
        ValueError: If an archive is damaged or not publicly available, or the splits differ from the publication.
    """
    datamodule = build_datamodule(cfg)
    for part, archive in _archives(cfg, datamodule):
        say(f"unpacking {archive} into {part.directory}")
        unpack(archive, part.directory)
    datamodule.prepare_data()
    rows = _verified(datamodule)
    show(_table(f"{datamodule.name} in {datamodule.directory}", rows, datamodule.item_name))
    for part in datamodule.parts:
        if part.split_path:
            say(f"{part.name}: split saved in {part.split_path}")
    say(_about(datamodule.parts))
    if wrong := [split for split, counted, published in rows if published and not counted.agrees(published)]:
        raise ValueError(
            f"data={datamodule.name} differs from the published statistics in {', '.join(wrong)}: the archive is "
            "incomplete or modified. Download it again from the authors."
        )


def _archives(cfg: DictConfig, datamodule: ReIDDataModule) -> list[tuple[ReIDDataModule, str | Path]]:
    """Return the datasets whose archives must be unpacked, and the archives; download those of `download=true`."""
    if not isinstance(cfg.download, bool):
        raise ValueError(f"download={cfg.download} is invalid: must be true or false.")
    if cfg.archive and cfg.download:
        raise ValueError(f"archive={cfg.archive} and download=true are mutually exclusive: give only one of them.")
    if cfg.archive:
        if not datamodule.folder:
            raise ValueError(
                f"archive={cfg.archive} cannot be used with data={datamodule.name}, which has no archive. Prepare the "
                "datasets of data=multi separately; unpack custom images yourself."
            )
        is_url = "://" in str(cfg.archive)
        return [(datamodule, _download(str(cfg.archive), datamodule) if is_url else str(cfg.archive))]
    if cfg.download:
        for part in datamodule.parts:
            if part.url is None:
                raise ValueError(
                    f"download=true is not available for {part.name}: it cannot be downloaded automatically. "
                    f"{part.how_to_obtain} Then run `reidlit prepare data={part.name} archive=<file>`."
                )
        return [(part, _download(part.url, part)) for part in datamodule.parts if part.url]
    return []


def _download(url: str, datamodule: ReIDDataModule) -> Path:
    target = datamodule.root / "archives" / file_name(url)
    say(f"downloading {url} to {target}")
    fetch(url, target, datamodule.sha256 if url == datamodule.url else None)
    return target


def _verified(datamodule: ReIDDataModule) -> list[tuple[str, Statistics, Statistics | None]]:
    """Return the counted and the published size of each split; an error explains how to obtain missing files."""
    try:
        return datamodule.verify()
    except FileNotFoundError as error:
        remedy = "" if datamodule.how_to_obtain in str(error) else f" {datamodule.how_to_obtain}"
        raise FileNotFoundError(f"{error}{remedy}") from error


def _table(title: str, rows: Sequence[tuple[str, Statistics, Statistics | None]], unit: str) -> Table:
    table = Table(title=title)
    for heading in ("split", "identities", unit, "cameras", "published"):
        table.add_column(heading, justify="left" if heading == "split" else "right")
    for split, counted, published in rows:
        verdict = "-"
        if published:
            verdict = "matches" if counted.agrees(published) else " / ".join(str(n or "?") for n in published)
        table.add_row(split, *map(str, counted), verdict)
    return table


def _about(parts: Sequence[ReIDDataModule]) -> str:
    """Return usage notices, licenses and papers, with the name of the dataset if there are several."""
    lines = []
    for part in parts:
        prefix = f"{part.name}: " if len(parts) > 1 else ""
        facts = (part.usage_notice, f"license: {part.licence}", f"paper: {part.paper}")
        lines += [prefix + fact for fact in facts if fact]
    return "\n".join(lines)
