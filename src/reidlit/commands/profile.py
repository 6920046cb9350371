"""`reidlit profile`: what models cost in weights, work, memory and time; or which models there are."""

import fnmatch
from dataclasses import asdict
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.box import SIMPLE
from rich.console import Console
from rich.live import Live
from rich.table import Table

from reidlit.commands._settings import current_run, plain
from reidlit.config import CONFIG_DIR, option, options
from reidlit.console import say
from reidlit.engine.malloc import keep_freed_memory
from reidlit.files import write_json
from reidlit.inference.device import describe_device, find_device
from reidlit.inference.image_inputs import parse_image_size
from reidlit.inference.loading import DEFAULT_SIZE
from reidlit.inference.profiling import Profile, measure
from reidlit.models.build import TIMM
from reidlit.spec import build


def run(cfg: DictConfig) -> None:
    """Profile the models that `model` names, or list all if it names none.

    Raises:
        ValueError: if `model` matches nothing, a setting is not allowed, or a model cannot run at `image_size`.
    """
    settings = plain(cfg)
    # Composed where it names an option; a pattern or timm/<name> stays a name.
    choice = HydraConfig.get().runtime.choices["model"]
    if choice is None:
        print_models()
        return
    specs = {choice: settings["model"]} if "model" in settings else find_specs(choice)
    device = find_device(settings["device"])
    if device.type == "cpu":
        keep_freed_memory()  # as training and testing do
    table = _table(settings["latency"])
    console = Console()
    profiles: dict[str, Profile] = {}
    # It is drawn only when a row is added, never during a timing.
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
    say(f"{_legend(settings)}\non {measured['device']}; fp32, channels last\nprofile: {path}")


def find_specs(pattern: str) -> dict[str, dict[str, Any]]:
    """The spec of each model that a pattern of conf/model, or `timm/<name>`, stands for, by name.

    Raises:
        ValueError: if it is none.
    """
    if pattern.startswith(TIMM):
        spec = option("model", "timm")
        spec["backbone"]["name"] = pattern.removeprefix(TIMM)
        return {pattern: spec}
    known = options("model")
    found = fnmatch.filter(known, pattern)
    if not found:
        raise ValueError(
            f"model={pattern} matches no model. Options: {', '.join(known)}; or {TIMM}<name>, any network of timm."
        )
    return {name: option("model", name) for name in found}


def _profile(name: str, spec: dict[str, Any], settings: dict[str, Any], device: torch.device) -> Profile:
    size = parse_image_size(settings["image_size"] or spec.get("image_size", DEFAULT_SIZE)) or DEFAULT_SIZE
    try:
        model = build({**spec, "image_size": list(size)}, num_classes=1)
        return measure(model, size, device, settings["batch_size"], settings["latency"])
    except RuntimeError as error:  # torch's own, where maps shrink to nothing or memory ends
        raise ValueError(
            f"model={name} cannot run with image_size={list(size)} and batch_size={settings['batch_size']}: {error}"
        ) from error


def _table(timed: bool) -> Table:
    table = Table(box=SIMPLE, pad_edge=False, collapse_padding=True)
    table.add_column("model", overflow="fold")
    headings = ["image", "embed-\nding", "million\nparams", "GMACs", "saved\nMB"]
    for heading in [*headings, "latency\nms", "images/s"] if timed else headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _legend(settings: dict[str, Any]) -> str:
    timings = (
        f"; latency: of one image; images/s: in batches of {settings['batch_size']}" if settings["latency"] else ""
    )
    return f"params: without the classifier; saved: for the backward pass, an image{timings}"


def _cells(profile: Profile) -> list[str]:
    height, width = profile.image_size
    cells = [f"{height}x{width}", str(profile.embedding_size), f"{profile.parameters / 1e6:.3f}"]
    cells += [f"{profile.macs / 1e9:.3f}", f"{profile.activation_bytes / 1e6:.1f}"]
    if profile.latency_ms is not None and profile.images_per_second is not None:
        cells += [f"{profile.latency_ms:.1f}", f"{profile.images_per_second:.0f}"]
    return cells


def papers() -> dict[str, tuple[str, str]]:
    """What each option of conf/model is, and its paper: the first comment of its YAML says both."""
    found = {}
    for name in options("model"):
        lines = (CONFIG_DIR / "model" / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
        comment = next((line for line in lines if line.startswith("#")), "")
        what, _, paper = comment.removeprefix("#").strip().partition(". ")
        found[name] = (what, paper)
    return found


def print_models() -> None:
    """Print every option of conf/model with its paper."""
    table = Table("name", "what", "paper")
    table.columns[0].no_wrap = True
    for name, row in papers().items():
        table.add_row(name, *row)
    Console().print(table)
    say(
        f"and any network of timm, as {TIMM}<name>. reidlit profile model=<name> measures one, model='osnet_*' several."
    )
