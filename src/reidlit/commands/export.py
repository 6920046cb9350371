"""`reidlit export`: convert a trained model to files for other runtimes and compare them with the model."""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from omegaconf import DictConfig
from rich.box import SIMPLE
from rich.table import Table
from torch import Tensor

from reidlit import __version__
from reidlit.commands._data import build_datamodule
from reidlit.commands._export_checks import check_difference, check_mean_ap
from reidlit.commands._extractor import load
from reidlit.commands._settings import current_run
from reidlit.compat.torchreid.weight_names import write_torchreid
from reidlit.console import say, show
from reidlit.data.image_files import images_in_folder
from reidlit.data.splits import EvalSet
from reidlit.export.formats import FORMATS, without_gradients, written_files
from reidlit.export.onnx import embedder
from reidlit.export.parity import Difference, Speed, difference, speed
from reidlit.export.quantize import PRECISIONS, to_fp16, to_int8
from reidlit.files import write_json
from reidlit.foreign_files import expanded
from reidlit.inference.calibration import KEY
from reidlit.inference.image_inputs import as_size, parse_image_size
from reidlit.inference.loading import TrainedModel
from reidlit.locks import locked

TORCHREID = "torchreid"
HEADINGS = (
    "format",
    "max\ndifference",
    "min\ncosine",
    "latency\n(ms)",
    "images/s\n(batch 32)",
    "size\n(MB)",
    "mAP (%)",
)


class ExportedFile(NamedTuple):
    """An exported file and the results of its comparison with the model.

    Attributes:
        name: Name of the format.
        path: Path of the file.
        difference: Differences of the embeddings; None for Torchreid weights, which are not compared.
        speed: Speed and size of the file; None for Torchreid weights.
        mean_ap: mAP of the model and of the file in percent, as text; empty if it was not measured.
    """

    name: str
    path: Path
    difference: Difference | None = None
    speed: Speed | None = None
    mean_ap: str = ""


def run(cfg: DictConfig) -> None:
    """Write the files, compare each with the model, and print a table.

    Raises:
        ValueError: If a setting is invalid, the model cannot be exported to a format, or a file differs from the model
            by more than its limit. That file is not written.
        BlockingIOError: If another process is writing the files.
    """
    formats = [cfg.format] if isinstance(cfg.format, str) else list(cfg.format)
    _check(formats, cfg.precision)
    base = expanded(cfg.output) if cfg.output else current_run().path / "model"
    with locked(base, wait=False, name="output"), _part_folder(base) as part:
        exported = _write(cfg, formats, base, part)
    show(_table(exported))
    for file in exported:
        say(f"written: {file.path}")
    say(f"metadata: {base.with_name(f'{base.name}.json')}")


def _write(cfg: DictConfig, formats: Sequence[str], base: Path, part: Path) -> list[ExportedFile]:
    """Write the files of all formats, each first into the folder `part`."""
    trained = load(cfg, parse_image_size(cfg.image_size))
    test_set = None if cfg.get("data") is None else _test_set(cfg)
    images = _images(cfg, test_set, trained.image_size)
    metadata = _metadata(trained, cfg)
    exported = []
    for name in formats:
        if name == TORCHREID:
            write_torchreid(trained.model, part / f"{base.name}.pth")
            file = ExportedFile(name, base.with_name(f"{base.name}.pth"))
        else:
            file = _export(cfg, name, base, part, trained, images, metadata, test_set)
        for written in written_files(part / file.path.name):
            written.replace(base.with_name(written.name))
        exported.append(file)
    write_json(base.with_name(f"{base.name}.json"), metadata)
    return exported


@contextmanager
def _part_folder(base: Path) -> Iterator[Path]:
    """Yield an empty folder next to the output, for files that are not complete and compared yet."""
    folder = base.with_name(f".{base.name}.part")
    shutil.rmtree(folder, ignore_errors=True)  # left by a killed process
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _export(
    cfg: DictConfig,
    name: str,
    base: Path,
    part: Path,
    trained: TrainedModel,
    images: Tensor,
    metadata: dict[str, Any],
    test_set: EvalSet | None,
) -> ExportedFile:
    """Export to one format in the folder `part`, and compare the file with the model."""
    export_format = FORMATS[name]
    target = base.with_name(f"{base.name}{export_format.suffix}")
    path = part / target.name
    module = embedder(trained.model, trained.image_size, cfg.normalize)
    model = without_gradients(module)
    export_format.write(module, path, trained.image_size, json.dumps(metadata))
    if cfg.precision == "fp16":
        to_fp16(path)
    if cfg.precision == "int8":
        to_int8(path, images)
    file = export_format.load(path)
    differences = difference(file, model, trained.image_size, images)
    check_difference(cfg, target, differences)
    mean_ap = "" if test_set is None else check_mean_ap(cfg, target, test_set, trained, model, file)
    return ExportedFile(name, target, differences, speed(file, path, trained.image_size), mean_ap)


def _check(formats: Sequence[str], precision: str) -> None:
    known = (*FORMATS, TORCHREID)
    if unknown := [name for name in formats if name not in known]:
        raise ValueError(f"format={unknown} is invalid: must be one or more of {', '.join(known)}.")
    if precision not in PRECISIONS:
        raise ValueError(f"precision={precision} is invalid: must be one of {', '.join(PRECISIONS)}.")
    if precision != "fp32" and set(formats) != {"onnx"}:
        raise ValueError(f"precision={precision} needs format=onnx, but format={list(formats)}.")


def _test_set(cfg: DictConfig) -> EvalSet:
    datamodule = build_datamodule(cfg)
    datamodule.prepare_data()
    datamodule.setup("test")
    if not datamodule.test_sets:
        raise ValueError(f"data={datamodule.name} has no test images to compare on: give a dataset with a test set.")
    return next(iter(datamodule.test_sets.values()))


def _images(cfg: DictConfig, test_set: EvalSet | None, size: tuple[int, int]) -> Tensor:
    """Return at most `num_images` images (N, 3, H, W) uint8, evenly spaced over those of `images` or the gallery."""
    paths: list[str] = []
    if cfg.images is not None:
        paths = [str(path) for path in images_in_folder(cfg.images)]
    elif test_set is not None:
        paths = [str(sample.path) for sample in test_set.gallery]
    chosen = paths[:: max(1, len(paths) // max(1, cfg.num_images))][: cfg.num_images]
    if not chosen:
        return torch.empty(0, 3, *size, dtype=torch.uint8)
    return torch.from_numpy(np.stack([as_size(path, size) for path in chosen])).permute(0, 3, 1, 2).contiguous()


def _metadata(trained: TrainedModel, cfg: DictConfig) -> dict[str, Any]:
    """Return the metadata that is stored in each file and in the JSON file next to it."""
    settings = trained.content.get("hyper_parameters", {})
    return {
        "input": {"name": "image", "shape": ["batch", 3, *trained.image_size], "type": "uint8", "colours": "RGB"},
        "output": {"name": "embedding", "shape": ["batch", trained.model.embedding_size], "type": "float32"},
        "normalised_output": cfg.normalize,
        "precision": cfg.precision,
        "mean": trained.model.mean.flatten().tolist(),
        "std": trained.model.std.flatten().tolist(),
        "model": settings.get("model"),
        "training_identities": len(settings.get("pids", ())),
        "epochs": trained.content.get("epoch"),
        "calibration": trained.content.get(KEY),
        "reidlit": __version__,
    }


def _table(exported: Sequence[ExportedFile]) -> Table:
    table = Table(title="Exported files compared with the model", box=SIMPLE, pad_edge=False, collapse_padding=True)
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading == "format" else "right", no_wrap=True)
    for name, _, differences, timing, mean_ap in exported:
        cells = [name, *[""] * 5, mean_ap]
        if differences is not None and timing is not None:
            cells[1:3] = f"{differences.largest:.1e}", f"{differences.cosine:.6f}"
            cells[3:6] = f"{timing.milliseconds:.1f}", f"{timing.images_per_second:.0f}", f"{timing.megabytes:.1f}"
        table.add_row(*cells)
    return table
