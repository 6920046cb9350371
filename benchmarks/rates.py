"""Speed of matrix products on this machine, for the floors of the benchmarks."""

import time
from collections.abc import Callable
from typing import Any

import torch

SIZE = 2048


def product_flops(clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the floating-point operations per second of a large fp32 matrix product.

    The fastest of PyTorch, NumPy and a 1 x 1 convolution counts, because that depends on the processor.
    """
    left, right = torch.randn(SIZE, SIZE), torch.randn(SIZE, SIZE)
    image = left.view(1, SIZE, 64, SIZE // 64).to(memory_format=torch.channels_last)
    kernel = right[..., None, None].to(memory_format=torch.channels_last)
    products: list[Callable[[], Any]] = [
        lambda: left @ right,
        lambda: left.numpy() @ right.numpy(),
        lambda: torch.nn.functional.conv2d(image, kernel),
    ]
    seconds = []
    for product in products:
        for _ in range(7):
            start = clock()
            product()
            seconds.append(clock() - start)
    return 2 * SIZE**3 / min(seconds)
