"""Poolings, compared with plain loops."""

import math
from itertools import pairwise

import pytest
import torch

from reidlit.models.pooling import AverageMaxPool, AveragePool, GeM, MaxPool, NoPool, Stripes

POOLINGS = (AveragePool, MaxPool, AverageMaxPool, GeM, Stripes)


def feature_map(height=6, width=4, low=0.1):
    torch.manual_seed(0)
    return torch.rand(2, 3, height, width) + low


def loops(x, reduce):
    """Apply `reduce` to the list of all values of each image and channel."""
    return torch.tensor([[reduce(channel.flatten().tolist()) for channel in image] for image in x])


def mean(values):
    return sum(values) / len(values)


@pytest.mark.parametrize(
    ("pool", "reduce"),
    [
        (AveragePool(), mean),
        (MaxPool(), max),
        (AverageMaxPool(), lambda values: mean(values) + max(values)),
        (GeM(3.0), lambda values: mean([v**3 for v in values]) ** (1 / 3)),
        (GeM(0.5), lambda values: mean([math.sqrt(v) for v in values]) ** 2),
    ],
)
def test_pooling_equals_formula(pool, reduce):
    x = feature_map()
    (vector,) = pool(x)
    assert pool.num_branches == 1
    torch.testing.assert_close(vector.detach(), loops(x, reduce))


def test_gem_is_between_mean_and_maximum():
    x = feature_map()
    lowest, highest = x.mean((2, 3)), x.amax((2, 3))
    torch.testing.assert_close(GeM(1.0)(x)[0].detach(), lowest)
    powers = [GeM(p)(x)[0].detach() for p in (1.0, 2.0, 4.0, 16.0, 64.0)]
    assert all((more > less).all() for less, more in pairwise(powers))
    assert (powers[-1] < highest).all()
    assert (powers[-1] > 0.9 * highest).all()


def test_gem_learns_its_power():
    pool, x = GeM(3.0), feature_map()
    pool(x)[0].sum().backward()
    with torch.no_grad():
        rise = GeM(3.01)(x)[0].double().sum() - GeM(2.99)(x)[0].double().sum()
    assert [name for name, _ in pool.named_parameters()] == ["p"]
    assert pool.p.grad.item() == pytest.approx(rise.item() / 0.02, rel=1e-3)


def test_gem_clamps_values_to_eps():
    x = torch.full((1, 2, 2, 2), -1.0, requires_grad=True)
    (vector,) = GeM(3.0, eps=1e-3)(x)
    torch.testing.assert_close(vector.detach(), torch.full((1, 2), 1e-3))
    vector.sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize(("height", "parts"), [(24, 6), (24, 4), (6, 1)])
def test_stripes_are_equal_slices(height, parts):
    x, pool = feature_map(height), Stripes(parts)
    vectors = pool(x)
    assert len(vectors) == pool.num_branches == parts
    rows = height // parts
    for n, vector in enumerate(vectors):
        torch.testing.assert_close(vector, loops(x[:, :, n * rows : (n + 1) * rows], mean))


@pytest.mark.parametrize(("height", "parts"), [(7, 3), (2, 6)])
def test_stripes_that_do_not_divide_the_height_share_rows(height, parts):
    x = feature_map(height)
    for n, vector in enumerate(Stripes(parts)(x)):
        rows = slice(n * height // parts, math.ceil((n + 1) * height / parts))
        torch.testing.assert_close(vector, loops(x[:, :, rows], mean))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("make", POOLINGS)
def test_half_precision_stays_finite(make, dtype):
    x = (1000 * feature_map(low=0.0).relu()).to(dtype)  # its third power exceeds the range of fp16
    x[0, 0] = 0
    x.requires_grad_()
    with torch.autocast("cpu", dtype):
        vectors = make()(x)
    sum(vector.float().sum() for vector in vectors).backward()
    assert all(vector.isfinite().all() for vector in vectors)
    assert x.grad.isfinite().all()
    exact = make()(x.detach().float())
    for vector, expected in zip(vectors, exact, strict=True):
        torch.testing.assert_close(vector.float(), expected, rtol=2e-2, atol=1e-3)


def test_gem_is_fp32_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        (vector,) = GeM()(feature_map().bfloat16())
    assert vector.dtype == torch.float32


def test_no_pool_returns_vectors_unchanged():
    one, two = torch.randn(2, 3), torch.randn(2, 3)
    assert NoPool()(one) == (one,)
    assert NoPool(2)((one, two)) == (one, two)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GeM(0), r"pool\.p=0"),
        (lambda: GeM(eps=0), r"pool\.eps=0"),
        (lambda: Stripes(0), r"pool\.parts=0"),
    ],
)
def test_invalid_values_raise(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("p", [1.0, 8.0, 60.0])
def test_gem_stays_finite_with_large_powers(p):
    x = torch.stack([torch.zeros(2, 4, 2), torch.rand(2, 4, 2) * 1e4]).requires_grad_()
    pool = GeM(p)
    (pooled,) = pool(x)
    pooled.sum().backward()
    assert pooled.isfinite().all()
    assert pool.p.grad.isfinite().all()
    assert x.grad.isfinite().all()
    torch.testing.assert_close(pooled[0], torch.full((2,), 1e-6))


def test_number_of_vectors_must_match_branches():
    with pytest.raises(ValueError, match=r"num_branches=3 .*\b2 vectors"):
        NoPool(3)((torch.ones(2, 4), torch.ones(2, 4)))
