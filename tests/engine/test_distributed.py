"""Two processes compute what one computes: for each option of `loss=`, the value and the gradient of every parameter."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import distributed, nn
from torch.multiprocessing import spawn
from torch.nn.parallel import DistributedDataParallel

from reidlit.config import CONFIG_DIR, option, options
from reidlit.engine.reid import ReIDModule

pytestmark = pytest.mark.slow

PIDS = [0, 1, 2, 0, 1, 2, 0, 1, 2, 3, 3, 0]  # identities are divided between the ranks
OPTIONS = [name for name in options("loss") if name != "attributes"]  # which are of no identities
PROXIES = "metric_learning with parameters"


def module(name, gather=True):
    """OSNet with these losses, as `reidlit train` builds it; batch norms keep their statistics, which differ by rank."""
    changes = ["loss.losses.metric_learning.name=ProxyAnchorLoss"] if name == PROXIES else []
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("train", [f"loss={name.partition(' ')[0]}", *changes])
    loss, model = (OmegaConf.to_container(node, resolve=True) for node in (cfg.loss, cfg.model))
    torch.manual_seed(0)
    built = ReIDModule(
        model,
        list(range(5)),
        loss,
        option("optimizer", "sgd"),
        option("scheduler", "constant"),
        (64, 32),
        gather=gather,
    )
    for part in built.model.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.eval()
    built._trainer = SimpleNamespace(current_epoch=0)
    built.model.double()
    return built


def batches(own):
    """Two global batches, of which this rank has a part; the second meets memories and centres that are filled."""
    for seed in range(2):
        image = torch.randn(12, 3, 64, 32, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        pid = torch.tensor(PIDS).roll(seed)
        yield {"image": image[own], "pid": pid[own], "camid": pid[own], "index": pid[own]}


class Step(nn.Module):
    """The loss of a batch as a module, for DistributedDataParallel."""

    def __init__(self, trained):
        super().__init__()
        self.model, self.loss, self.trained = trained.model, trained.loss, [trained]

    def forward(self, batch):
        return self.trained[0].losses_of(self.model(batch["image"], batch["camid"]), batch, self.loss)[0]


def found(name, own, wrap, gather=True):
    """The losses and gradients of the steps, and the buffers of the losses after them."""
    step = Step(module(name, gather))
    wrapped, values = wrap(step), {}
    for number, batch in enumerate(batches(own)):
        step.zero_grad()
        loss = wrapped(batch)
        loss.backward()
        values |= {f"{number} {key}": p.grad for key, p in step.named_parameters() if p.grad is not None}
        values[f"{number} loss"] = loss.detach()
    return values | {f"kept {key}": buffer for key, buffer in step.loss.named_buffers()}


def run_rank(rank, folder):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    own = slice(rank * 6, rank * 6 + 6)

    def wrap(step):
        return DistributedDataParallel(step, find_unused_parameters=True, forward_sync_buffers=False)

    results = {name: found(name, own, wrap) for name in (*OPTIONS, PROXIES)}
    for name in ("triplet", "memory"):
        results[f"{name} alone"] = found(name, own, wrap, gather=False)
    torch.save(results, Path(folder, f"{rank}.pt"))
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    spawn(run_rank, args=(str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


def difference(ranks, name, expected):
    """The largest of all gradients and buffers, and of the losses' mean over the ranks; relative where they exceed one."""
    first, second = (rank[name] for rank in ranks)
    assert set(first) == set(second) == set(expected)
    apart = 0.0
    for key, value in expected.items():
        one = first[key]
        if key.endswith("loss"):  # of a rank's own images, but for losses that compare
            one = (one + second[key]) / 2
        else:
            assert torch.equal(one, second[key]), key
        apart = max(apart, float((one - value).abs().max() / value.abs().max().clamp_min(1)))
    return apart


@pytest.mark.parametrize("name", [*OPTIONS, PROXIES])
def test_losses_and_gradients_are_those_of_one_process(name, ranks):
    expected = found(name, slice(None), lambda step: step)
    assert max(float(value.abs().max()) for key, value in expected.items() if key.startswith("1 model")) > 1e-4
    assert difference(ranks, name, expected) < 1e-6


@pytest.mark.parametrize("name", ["triplet", "memory"])
def test_without_gathering_they_are_not(name, ranks):
    """What the test above would see."""
    with pytest.raises(AssertionError):
        assert difference(ranks, f"{name} alone", found(name, slice(None), lambda step: step)) < 1e-4
