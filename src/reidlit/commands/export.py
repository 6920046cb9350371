"""`reidlit export`: a trained model as a file for another runtime, compared with the model."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table
from torch import Tensor

from reidlit import __version__
from reidlit.commands._data import build_datamodule
from reidlit.commands._extractor import load
from reidlit.commands._settings import current_run
from reidlit.compat.torchreid.weight_names import write_torchreid
from reidlit.console import say
from reidlit.data.datamodule import ReIDDataModule
from reidlit.data.image_files import list_images_below
from reidlit.data.splits import EvalSet
from reidlit.export.formats import FORMATS, Run, embedder
from reidlit.export.parity import Difference, FileBackend, Speed, difference, speed
from reidlit.export.quantize import PRECISIONS, to_fp16, to_int8
from reidlit.files import write_json
from reidlit.inference.calibration import KEY
from reidlit.inference.extractor import FeatureExtractor
from reidlit.inference.image_inputs import as_size
from reidlit.inference.loading import Trained
from reidlit.metrics import evaluate

TORCHREID = "torchreid"
LIMITS = {"fp32": (1e-4, 0.9999), "fp16": (0.02, 0.999), "int8": (float("inf"), 0.9)}  # difference, cosine
Row = tuple[str, str, Difference | None, Speed | None, str]


def run(cfg: DictConfig) -> None:
    """Write the files, compare each with the model, and print a table.

    Raises:
        ValueError: if an option is unknown, a model cannot be written in a form, or a file differs by more than its limit; such a
            file is deleted.
    """
    formats = [cfg.format] if isinstance(cfg.format, str) else list(cfg.format)
    _check(formats, cfg.precision)
    trained = load(cfg, tuple(cfg.image_size) if cfg.image_size else None)
    datamodule = _datamodule(cfg)
    images = _images(cfg, datamodule, trained.image_size)
    base = Path(cfg.output).expanduser() if cfg.output else current_run().path / "model"
    base.parent.mkdir(parents=True, exist_ok=True)
    metadata = _metadata(trained, cfg)
    rows: list[Row] = []
    for name in formats:
        if name == TORCHREID:
            path = base.with_name(f"{base.name}.pth")
            write_torchreid(trained.model, path)
            rows.append((name, str(path), None, None, ""))
            continue
        rows.append(_export(cfg, name, base, trained, images, metadata, datamodule))
    write_json(base.with_name(f"{base.name}.json"), metadata)
    Console().print(_table(rows))
    for _, path_name, *_ in rows:
        say(f"written: {path_name}")
    say(f"about it: {base.with_name(f'{base.name}.json')}")


def _export(
    cfg: DictConfig,
    name: str,
    base: Path,
    trained: Trained,
    images: Tensor,
    metadata: dict[str, Any],
    datamodule: ReIDDataModule | None,
) -> Row:
    form = FORMATS[name]
    path = base.with_name(f"{base.name}{form.suffix}")
    module = embedder(trained.model, trained.image_size, cfg.normalize)
    try:
        form.write(module, path, trained.image_size, json.dumps(metadata))
        if cfg.precision == "fp16":
            to_fp16(path)
        if cfg.precision == "int8":
            to_int8(path, images)
        file = form.load(path)
        found = difference(file, _model(module), trained.image_size, images)
        _judge(cfg, path, found)
        change = "" if datamodule is None else _change(cfg, path, datamodule, trained, _model(module), file)
    except BaseException:
        for written in (path, path.with_suffix(".bin"), path.with_name(f"{path.name}.data")):
            written.unlink(missing_ok=True)
        raise
    return name, str(path), found, speed(file, path, trained.image_size), change


def _check(formats: Sequence[str], precision: str) -> None:
    known = (*FORMATS, TORCHREID)
    if unknown := [name for name in formats if name not in known]:
        raise ValueError(f"format={unknown} is unknown; there are {', '.join(known)}.")
    if precision not in PRECISIONS:
        raise ValueError(f"precision={precision} must be one of {', '.join(PRECISIONS)}.")
    if precision != "fp32" and set(formats) != {"onnx"}:
        raise ValueError(f"precision={precision} is for format=onnx; got format={list(formats)}.")


def _judge(cfg: DictConfig, path: Path, found: Difference) -> None:
    """Refuse a file that differs.

    Raises:
        ValueError: if it differs by more than the limits.
    """
    largest, cosine = LIMITS[cfg.precision]
    largest = largest if cfg.max_difference is None else cfg.max_difference
    cosine = cosine if cfg.min_cosine is None else cfg.min_cosine
    if found.largest > largest or found.cosine < cosine:
        raise ValueError(
            f"{path} differs from the model: by {found.largest:.2g} (max_difference={largest:g}), with a cosine of "
            f"{found.cosine:.5f} (min_cosine={cosine:g}). It was deleted."
        )


def _change(cfg: DictConfig, path: Path, datamodule: ReIDDataModule, trained: Trained, model: Run, file: Run) -> str:
    """The mAP of the model and of the file.

    Raises:
        ValueError: if it falls by more than `max_mAP_loss`.
    """
    sets = next(iter(datamodule.test_sets.values()))
    before, after = (_mean_ap(sets, trained, run) for run in (model, file))
    if before - after > cfg.max_mAP_loss:
        raise ValueError(
            f"{path} loses {100 * (before - after):.2f} % mAP (max_mAP_loss={cfg.max_mAP_loss:g}): {100 * before:.2f} "
            f"before, {100 * after:.2f} after. It was deleted."
        )
    return f"{100 * before:.2f} to {100 * after:.2f}"


def _mean_ap(sets: EvalSet, trained: Trained, run: Run) -> float:
    extractor = FeatureExtractor(trained=trained, device="cpu")
    extractor.backend = FileBackend(run)
    parts = [extractor([str(sample.path) for sample in part]) for part in sets]
    labels = [np.array([getattr(sample, name) for sample in part]) for name in ("pid", "camid") for part in sets]
    return evaluate(*parts, *labels).mAP


def _model(module: torch.nn.Module) -> Run:
    def run(image: Tensor) -> Tensor:
        with torch.inference_mode():
            embedding: Tensor = module(image)
        return embedding

    return run


def _datamodule(cfg: DictConfig) -> ReIDDataModule | None:
    if cfg.get("data") is None:
        return None
    datamodule = build_datamodule(cfg)
    datamodule.prepare_data()
    datamodule.setup("test")
    if not datamodule.test_sets:
        raise ValueError(f"data={datamodule.name} has no test images to compare on.")
    return datamodule


def _images(cfg: DictConfig, datamodule: ReIDDataModule | None, size: tuple[int, int]) -> Tensor:
    """Some real images (N, 3, H, W), spread over those that are there."""
    paths: list[str] = []
    if cfg.images is not None:
        paths = [str(path) for path in list_images_below(Path(cfg.images).expanduser())]
        if not paths:
            raise ValueError(f"images={cfg.images} holds no image.")
    elif datamodule is not None:
        paths = [str(sample.path) for sample in next(iter(datamodule.test_sets.values())).gallery]
    chosen = paths[:: max(1, len(paths) // max(1, cfg.num_images))][: cfg.num_images]
    if not chosen:
        return torch.empty(0, 3, *size, dtype=torch.uint8)
    return torch.from_numpy(np.stack([as_size(path, size) for path in chosen])).permute(0, 3, 1, 2).contiguous()


def _metadata(trained: Trained, cfg: DictConfig) -> dict[str, Any]:
    """What a file tells of itself."""
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


def _table(rows: Sequence[Row]) -> Table:
    table = Table(title="exported, compared with the model at batches of 1, 2 and 7 and on the images given")
    headings = ("format", "difference", "least cosine", "ms an image", "images/s at 32", "MB", "mAP in percent")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "format" else "right")
    for name, _, found, fast, change in rows:
        compared = (f"{found.largest:.1e}", f"{found.cosine:.6f}") if found else ("", "")
        measured = (
            (f"{fast.milliseconds:.1f}", f"{fast.images_per_second:.0f}", f"{fast.megabytes:.1f}")
            if fast
            else ("",) * 3
        )
        table.add_row(name, *compared, *measured, change)
    return table
