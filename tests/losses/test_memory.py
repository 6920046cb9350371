"""`PrototypeMemory` compared with float64 loops; `test_center.py` has the tests shared by all stateful losses."""

import math

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch.nn import functional

from reidlit.config import CONFIG_DIR
from reidlit.losses.memory import PrototypeMemory
from reidlit.models import ReIDOutput
from reidlit.spec import build

SIZES = [6, 3]
BATCHES = [[0, 0, 2, 2, 2, 3], [3, 0, 4, 4, 0, 0], [1, 1, 1, 1, 1, 1], [2, 0, 1, 3, 2, 2], [4, 0, 0, 2, 3, 4]]


def output(*features):
    return ReIDOutput(features[0], features, ())


def random_features(size, dims=SIZES, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(size, dim, generator=generator) for dim in dims]


def mean(values):
    return sum(values) / len(values)


def contrast(x, pid, memory, temperature):
    """Return the mean loss of the images whose identity has a prototype in the dict `memory`; zero without any."""
    losses = []
    for image, p in zip(functional.normalize(x), pid, strict=True):
        if p in memory:
            scores = {j: (image @ prototype / temperature).exp() for j, prototype in memory.items()}
            losses.append(-(scores[p] / sum(scores.values())).log())
    return mean(losses) if losses else 0 * x.sum()


def updated_memory(x, pid, memory, momentum, mode):
    result = dict(memory)
    for j in set(pid):
        images = [image for image, p in zip(functional.normalize(x), pid, strict=True) if p == j]
        old = memory.get(j, torch.zeros_like(images[0]))
        use_mean = mode == "mean" or j not in memory
        new = mean(images) if use_mean else min(images, key=lambda image: (image @ old).item())
        result[j] = momentum * old + (1 - momentum) * new
        result[j] = result[j] / result[j].norm()
    return result


@pytest.mark.parametrize("mode", ["mean", "hardest"])
@pytest.mark.parametrize(("temperature", "momentum"), [(0.05, 0.2), (0.5, 0.9), (1.0, 0.0)])
def test_losses_gradients_and_prototypes_match_loops(mode, temperature, momentum):
    loss = PrototypeMemory(7, SIZES, temperature, momentum, mode)  # identities 5 and 6 never occur
    memories = [{}, {}]
    for step, pid in enumerate(BATCHES):
        features = [x.requires_grad_() for x in random_features(6, seed=step)]
        exact = [x.detach().double().requires_grad_() for x in features]
        expected = mean([contrast(x, pid, memory, temperature) for x, memory in zip(exact, memories, strict=True)])
        value = loss(output(*features), torch.tensor(pid))
        assert value.item() == pytest.approx(expected.item(), rel=1e-4)
        assert (value.item() == 0) == (step in (0, 2))  # all identities are new
        gradients, exact_gradients = torch.autograd.grad(value, features), torch.autograd.grad(expected, exact)
        for gradient, exact_gradient in zip(gradients, exact_gradients, strict=True):
            torch.testing.assert_close(gradient.double(), exact_gradient, rtol=1e-3, atol=1e-5)
        memories = [
            updated_memory(x.detach(), pid, memory, momentum, mode) for x, memory in zip(exact, memories, strict=True)
        ]
        for memory, prototypes in zip(memories, loss.prototypes.double().split(SIZES, 1), strict=True):
            for j in range(7):
                torch.testing.assert_close(prototypes[j], memory.get(j, 0 * prototypes[j]), rtol=1e-4, atol=1e-6)
    assert (loss.prototypes != 0).any(1).tolist() == [True] * 5 + [False] * 2


def test_modes_give_different_prototypes():
    pid, prototypes = torch.tensor(BATCHES[0]), {}
    for mode in ("mean", "hardest"):
        loss = PrototypeMemory(5, SIZES, mode=mode)
        for seed in range(2):
            loss(output(*random_features(6, seed=seed)), pid)
        prototypes[mode] = loss.prototypes
    assert not torch.isclose(prototypes["mean"][0], prototypes["hardest"][0]).all()


def test_training_separates_identities():
    torch.manual_seed(0)
    pid, loss = torch.arange(16) % 4, PrototypeMemory(4, [8], temperature=0.2)
    features = torch.randn(16, 8, requires_grad=True)
    optimizer = torch.optim.Adam([features], lr=0.05)
    for _ in range(100):
        optimizer.zero_grad()
        loss(output(features), pid).backward()
        optimizer.step()
    cosine = functional.normalize(features.detach()) @ functional.normalize(features.detach()).T
    same = pid[:, None] == pid
    assert cosine[same].min() > cosine[~same].max() + 0.3


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        ({"temperature": 0}, "temperature=0"),
        ({"temperature": math.nan}, "temperature=nan"),
        ({"momentum": 1}, "momentum=1"),
        ({"momentum": -0.1}, r"momentum=-0\.1"),
        ({"mode": "median"}, "mode='median'.*mean, hardest"),
    ],
)
def test_invalid_arguments_raise(options, pattern):
    with pytest.raises(ValueError, match=pattern):
        PrototypeMemory(5, SIZES, **options)


def test_config_uses_defaults_and_identity_batches():
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("train", ["loss=memory"])
    assert cfg.sampler._target_.endswith("IdentityBatches")
    built, default = build(cfg.loss.losses.memory, num_classes=5, feature_sizes=SIZES), PrototypeMemory(5, SIZES)
    for name in ("temperature", "momentum", "mode"):
        assert getattr(built, name) == getattr(default, name)
