"""Devices by name, for models and galleries."""

import torch


def find_device(name: str) -> torch.device:
    """Return the device that a setting names.

    Args:
        name: `cpu`, `cuda`, another device of PyTorch such as `cuda:1`, or `auto` for a GPU if there is one.

    Raises:
        ValueError: If PyTorch does not know the device, or it is a GPU and none is available.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device={name!r} is unknown: give cpu, cuda or auto.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device={name!r} is not available: PyTorch finds no GPU here. Give cpu or auto.")
    return device


def describe_device(device: torch.device) -> str:
    """Describe a device for people: the GPU's name, or the CPU's instruction set and the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({torch.backends.cpu.get_cpu_capability()}), threads: {torch.get_num_threads()}"
