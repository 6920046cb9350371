"""Costs of a model: parameters, multiply-adds, memory and time."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode

from reidlit.models.model import ReIDModel

MIN_SECONDS = 2.0  # duration of each timing


@dataclass(frozen=True)
class Profile:
    """Costs of a model in fp32.

    Attributes:
        image_size: Height and width in pixels.
        embedding_size: Size D of an embedding.
        parameters: Number of parameters without the classifier, whose size depends on the dataset. Shared layers count
            once.
        macs: Number of multiply-adds of convolutions, linear layers and attention per image. Shared layers count each
            time they run.
        activation_bytes: Memory per training image that is kept for the backward pass, without parameters.
        latency_ms: Median time to embed one image in milliseconds; None if not timed.
        images_per_second: Median throughput of a batch; None if not timed.
    """

    image_size: tuple[int, ...]
    embedding_size: int
    parameters: int
    macs: int
    activation_bytes: int
    latency_ms: float | None
    images_per_second: float | None


def measure(
    model: ReIDModel, image_size: Sequence[int], device: torch.device, batch_size: int = 64, timed: bool = True
) -> Profile:
    """Measure the costs of a model without changing it.

    Args:
        model: Model with any weights.
        image_size: Height and width in pixels.
        device: Device to run on.
        batch_size: Number of images per batch when the throughput is measured.
        timed: Whether to measure latency and throughput, which takes most of the time.

    Raises:
        ValueError: If `batch_size` is not a positive integer.
    """
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"batch_size={batch_size} is invalid: must be a positive integer.")

    def batch(size: int) -> tuple[Tensor, Tensor]:
        image = torch.randint(0, 256, (size, 3, *image_size), dtype=torch.uint8, device=device)
        return image, torch.zeros(size, dtype=torch.long, device=device)

    copy = deepcopy(model).to(device).to(memory_format=torch.channels_last)
    one, many = batch(1), batch(batch_size)
    return Profile(
        image_size=tuple(image_size),
        embedding_size=copy.embedding_size,
        parameters=sum(p.numel() for name, p in copy.named_parameters() if not name.startswith("classifier.")),
        macs=_macs(copy, *one),
        # The memory of one additional image: statistics of batch norms are saved once per batch, and training needs at
        # least two images.
        activation_bytes=_saved_bytes(copy, *batch(3)) - _saved_bytes(copy, *batch(2)),
        latency_ms=1000 * _seconds(copy, *one) if timed else None,
        images_per_second=batch_size / _seconds(copy, *many) if timed else None,
    )


def _macs(model: ReIDModel, image: Tensor, camid: Tensor) -> int:
    # FlopCounterMode misses some fused attention kernels: scaled_dot_product_attention on the CPU, and
    # nn.MultiheadAttention without gradients. The MATH backend with gradients uses matrix products, which are counted.
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model.eval().embed(image, camid)
    return int(counter.get_total_flops()) // 2  # two floating-point operations per multiply-add


def _saved_bytes(model: ReIDModel, image: Tensor, camid: Tensor) -> int:
    parameter_storages = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    saved: dict[int, int] = {}

    def record(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()  # views, and layers that save the same tensor, share one storage
        if storage.data_ptr() not in parameter_storages:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.enable_grad(), saved_tensors_hooks(record, lambda tensor: tensor):
        output = model.train()(image, camid)
    del output  # keep the graph until here, so that no address is reused
    return sum(saved.values())


def _seconds(model: ReIDModel, image: Tensor, camid: Tensor) -> float:
    """Return the median time to embed a batch in seconds. The timer warms up and synchronizes the device."""
    names = {"embed": model.eval().embed, "image": image, "camid": camid}
    timer = Timer("embed(image, camid)", globals=names, num_threads=torch.get_num_threads())
    with torch.inference_mode():
        return float(timer.blocked_autorange(min_run_time=MIN_SECONDS).median)
