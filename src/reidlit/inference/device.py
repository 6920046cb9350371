"""Selection and description of devices."""

import torch


def find_device(name: str) -> torch.device:
    """Return the device of a name.

    Args:
        name: `cpu`, `cuda`, another PyTorch device such as `cuda:1`, or `auto` for a GPU if one is available.

    Raises:
        ValueError: If PyTorch does not support the device, or no GPU is available.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device={name!r} is invalid: must be cpu, cuda, cuda:<index> or auto.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device={name!r} is not available: PyTorch finds no GPU. Use cpu or auto.")
    return device


def describe_device(device: torch.device) -> str:
    """Return the name of the GPU, or the instruction set and the number of threads of the CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({torch.backends.cpu.get_cpu_capability()}), threads: {torch.get_num_threads()}"
