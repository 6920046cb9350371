"""How fast this machine multiplies: what floors are made of."""

import time
from collections.abc import Callable
from typing import Any

import torch

SIZE = 2048


def product_flops(clock: Callable[[], float] = time.perf_counter) -> float:
    """Floating-point operations a second of a large fp32 matrix product, by whichever of three libraries is fastest.

    PyTorch's product, NumPy's, and a 1 x 1 convolution: which of them suits a processor differs.
    """
    left, right = torch.randn(SIZE, SIZE), torch.randn(SIZE, SIZE)
    image = left.view(1, SIZE, 64, SIZE // 64).to(memory_format=torch.channels_last)
    kernel = right[..., None, None].to(memory_format=torch.channels_last)
    products: list[Callable[[], Any]] = [
        lambda: left @ right,
        lambda: left.numpy() @ right.numpy(),
        lambda: torch.nn.functional.conv2d(image, kernel),
    ]
    taken = []
    for product in products:
        for _ in range(7):
            start = clock()
            product()
            taken.append(clock() - start)
    return 2 * SIZE**3 / min(taken)
