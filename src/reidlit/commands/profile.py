"""`reidlit profile`: parameters, operations, memory and latency of models, or a list of all models."""

import fnmatch
from dataclasses import asdict
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.box import SIMPLE
from rich.live import Live
from rich.table import Table

from reidlit.commands._settings import current_run, plain
from reidlit.config import option, options
from reidlit.console import PlainConsole, say, show
from reidlit.engine.malloc import keep_freed_memory
from reidlit.files import write_json
from reidlit.help.conf_reader import read_choice
from reidlit.inference.device import describe_device, find_device
from reidlit.inference.image_inputs import parse_image_size
from reidlit.inference.loading import DEFAULT_SIZE
from reidlit.inference.profiling import Profile, measure
from reidlit.models.build import TIMM
from reidlit.spec import build


def run(cfg: DictConfig) -> None:
    """Profile the models that `model` selects, or list all models if it is not given.

    Raises:
        ValueError: If `model` matches no model, a setting is invalid, or a model cannot run at `image_size`.
    """
    settings = plain(cfg)
    # Hydra composes `model` only if it is a choice of conf/model, not if it is a pattern or timm/<name>.
    choice = HydraConfig.get().runtime.choices["model"]
    if choice is None:
        print_models()
        return
    specs = {choice: settings["model"]} if "model" in settings else find_specs(choice)
    device = find_device(settings["device"])
    if device.type == "cpu":
        keep_freed_memory()  # as in training and testing
    table = _table(settings["latency"])
    console = PlainConsole()
    profiles: dict[str, Profile] = {}
    # Without auto-refresh, rendering does not disturb the measurements.
    with Live(table, console=console, auto_refresh=False, transient=True) as live:
        for name, spec in specs.items():
            profiles[name] = _profile(name, spec, settings, device)
            table.add_row(name, *_cells(profiles[name]))
            live.refresh()
    console.print(table)
    path = current_run().path / "profile.json"
    measured = {
        "device": describe_device(device),
        "torch": torch.__version__,
        "batch_size": settings["batch_size"],
        "models": {name: asdict(profile) for name, profile in profiles.items()},
    }
    write_json(path, measured)
    say(f"{_legend(settings)}\ndevice: {measured['device']}; fp32, channels last\nprofile: {path}")


def find_specs(pattern: str) -> dict[str, dict[str, Any]]:
    """Return the specs of the selected models by name.

    Args:
        pattern: Pattern of choices of `model`, such as `osnet_*`, or `timm/<name>`.

    Raises:
        ValueError: If the pattern matches no model.
    """
    if pattern.startswith(TIMM):
        spec = option("model", "timm")
        spec["backbone"]["name"] = pattern.removeprefix(TIMM)
        return {pattern: spec}
    choices = options("model")
    names = fnmatch.filter(choices, pattern)
    if not names:
        raise ValueError(
            f"model={pattern} matches no model. Choose from {', '.join(choices)}, or give {TIMM}<name> for a timm "
            "network."
        )
    return {name: option("model", name) for name in names}


def _profile(name: str, spec: dict[str, Any], settings: dict[str, Any], device: torch.device) -> Profile:
    size = parse_image_size(settings["image_size"] or spec.get("image_size", DEFAULT_SIZE)) or DEFAULT_SIZE
    try:
        model = build({**spec, "image_size": list(size)}, num_classes=1)
        return measure(model, size, device, settings["batch_size"], settings["latency"])
    except RuntimeError as error:  # from torch: a feature map becomes empty, or memory is exhausted
        raise ValueError(
            f"model={name} cannot run with image_size={list(size)} and batch_size={settings['batch_size']}: {error}"
        ) from error


def _table(timed: bool) -> Table:
    table = Table(box=SIMPLE, pad_edge=False, collapse_padding=True)
    table.add_column("model", overflow="fold")
    headings = ["image", "embedding\nsize", "params\n(M)", "GMACs", "saved\n(MB)"]
    for heading in [*headings, "latency\n(ms)", "images/s"] if timed else headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _legend(settings: dict[str, Any]) -> str:
    timings = f"; latency: one image; images/s: batches of {settings['batch_size']}" if settings["latency"] else ""
    return f"params: without the classifier; saved: activations per image for the backward pass{timings}"


def _cells(profile: Profile) -> list[str]:
    height, width = profile.image_size
    cells = [f"{height}x{width}", str(profile.embedding_size), f"{profile.parameters / 1e6:.3f}"]
    cells += [f"{profile.macs / 1e9:.3f}", f"{profile.activation_bytes / 1e6:.1f}"]
    if profile.latency_ms is not None and profile.images_per_second is not None:
        cells += [f"{profile.latency_ms:.1f}", f"{profile.images_per_second:.0f}"]
    return cells


def papers() -> dict[str, tuple[str, str]]:
    """Return the description and the paper of each choice of `model`: first line and last paragraph of its header."""
    headers = {name: read_choice("model", name) for name in options("model")}
    return {name: (header.summary, header.notes[-1]) for name, header in headers.items()}


def print_models() -> None:
    """Print each choice of `model` with its description and paper."""
    table = Table("name", "description", "paper")
    table.columns[0].no_wrap = True
    for name, row in papers().items():
        table.add_row(name, *row)
    show(table)
    say(
        f"All timm networks are available as {TIMM}<name>. Profile one model with `reidlit profile model=<name>`, or "
        "several with a pattern such as model='osnet_*'."
    )
