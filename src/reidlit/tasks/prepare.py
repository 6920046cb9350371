"""`reidlit prepare`: unpack a dataset's archive where the others look for it, and verify it."""

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from reidlit.data.archive import unpack
from reidlit.tasks import common


def run(cfg: DictConfig) -> None:
    """Unpack `archive`, if one is given, and compare the splits with the published statistics.

    Raises:
        FileNotFoundError: if neither an archive nor the unpacked dataset is there.
        ValueError: if the archive is damaged or the splits are not as published.
    """
    datamodule = common.build_datamodule(cfg)
    if cfg.archive:
        common.say(f"unpacking {cfg.archive} into {datamodule.directory}")
        unpack(cfg.archive, datamodule.directory)
    datamodule.prepare_data()
    table = Table(title=f"{datamodule.name} in {datamodule.directory}")
    for heading in ("split", "identities", "images", "cameras", "published"):
        table.add_column(heading, justify="left" if heading == "split" else "right")
    wrong = []
    for split, found, published in datamodule.verify():
        table.add_row(split, *map(str, found), "as published" if found == published else str(published or "-"))
        if published and found != published:
            wrong.append(split)
    Console().print(table)
    common.say(f"licence: {datamodule.licence}\npaper: {datamodule.paper}")
    if wrong:
        raise ValueError(
            f"data={datamodule.name}: {', '.join(wrong)} is not as published; the archive is incomplete or altered. "
            "Get it again from its authors."
        )
