"""What a model costs: weights, work, memory and time."""

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

MIN_SECONDS = 2.0  # of each timing


@dataclass(frozen=True)
class Profile:
    """What a model costs in fp32.

    Attributes:
        image_size: height and width in pixels.
        embedding_size: D, the size of the embedding.
        parameters: of all but the classifier, whose size depends on the data. A shared layer's count once.
        macs: multiply-adds of convolutions, linear layers and attention that embed one image. A shared layer's count
            each time it runs.
        activation_bytes: what each image of a training batch keeps for the backward pass, parameters not counted.
        latency_ms: median time to embed one image, in milliseconds; None if it was not timed.
        images_per_second: median throughput of a batch; None if it was not timed.
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
    """Count and time a model as it runs here; the model itself stays as it is.

    Args:
        model: any; its weights do not matter.
        image_size: height and width in pixels.
        device: where to run it.
        batch_size: images at a time for the throughput.
        timed: whether to measure latency and throughput, which takes most of the time.

    Raises:
        ValueError: if `batch_size` is no positive number.
    """
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"batch_size={batch_size} must be a whole number, 1 or more.")

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
        # What one more image adds: batch norm's statistics are saved once a batch, and it needs two images at least.
        activation_bytes=_saved_bytes(copy, *batch(3)) - _saved_bytes(copy, *batch(2)),
        latency_ms=1000 * _seconds(copy, *one) if timed else None,
        images_per_second=batch_size / _seconds(copy, *many) if timed else None,
    )


def _macs(model: ReIDModel, image: Tensor, camid: Tensor) -> int:
    # The counter does not know every fused attention: not scaled_dot_product_attention's on a CPU, and not that of
    # nn.MultiheadAttention without gradients. Written out in matrix products, with gradients, all are counted.
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model.eval().embed(image, camid)
    return int(counter.get_total_flops()) // 2  # a multiplication and an addition are two


def _saved_bytes(model: ReIDModel, image: Tensor, camid: Tensor) -> int:
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    saved: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()  # shared by its views, and by layers that save the same tensor
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.enable_grad(), saved_tensors_hooks(note, lambda tensor: tensor):
        output = model.train()(image, camid)
    del output  # only now: an address is not used again while the graph lives
    return sum(saved.values())


def _seconds(model: ReIDModel, image: Tensor, camid: Tensor) -> float:
    """Return the median time to embed a batch; the timer warms up and waits for the device."""
    names = {"embed": model.eval().embed, "image": image, "camid": camid}
    timer = Timer("embed(image, camid)", globals=names, num_threads=torch.get_num_threads())
    with torch.inference_mode():
        return float(timer.blocked_autorange(min_run_time=MIN_SECONDS).median)
