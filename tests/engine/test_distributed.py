"""Training on two processes has the same losses and gradients as on one, for each choice of `loss=`."""

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

PIDS = [0, 1, 2, 0, 1, 2, 0, 1, 2, 3, 3, 0]  # both ranks have images of the same identities
LOSSES = [name for name in options("loss") if name != "attributes"]  # which does not use identities
PROXIES = "metric_learning with parameters"


def module(name, gather=True):
    """Return OSNet with a choice of `loss=`, as `reidlit train` builds it.

    Batch norms are in evaluation mode, since their batch statistics differ between ranks.
    """
    overrides = ["loss.losses.metric_learning.name=ProxyAnchorLoss"] if name == PROXIES else []
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("train", [f"loss={name.partition(' ')[0]}", *overrides])
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
    for layer in built.model.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.eval()
    built._trainer = SimpleNamespace(current_epoch=0)
    built.model.double()
    return built


def batches(rank_images):
    """Yield the images of this rank from two batches; in the second, memories and centers are no longer empty."""
    for seed in range(2):
        image = torch.randn(12, 3, 64, 32, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)[
            rank_images
        ]
        pid = torch.tensor(PIDS).roll(seed)[rank_images]
        yield {"image": image, "pid": pid, "camid": pid, "index": pid}


class LossOfBatch(nn.Module):
    """A module that returns the loss of a batch, for DistributedDataParallel."""

    def __init__(self, module):
        super().__init__()
        self.model, self.loss, self.module = module.model, module.loss, [module]

    def forward(self, batch):
        return self.module[0].losses_of(self.model(batch["image"], batch["camid"]), batch, self.loss)[0]


def train(name, rank_images, wrap, gather=True):
    """Return the loss and the gradients of each step, and the buffers of the losses after the last step."""
    loss_of_batch = LossOfBatch(module(name, gather))
    wrapped, values = wrap(loss_of_batch), {}
    for number, batch in enumerate(batches(rank_images)):
        loss_of_batch.zero_grad()
        loss = wrapped(batch)
        loss.backward()
        values |= {f"{number} {key}": p.grad for key, p in loss_of_batch.named_parameters() if p.grad is not None}
        values[f"{number} loss"] = loss.detach()
    return values | {f"buffer {key}": buffer for key, buffer in loss_of_batch.loss.named_buffers()}


def run_rank(rank, folder):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    rank_images = slice(rank * 6, rank * 6 + 6)

    def wrap(module):
        return DistributedDataParallel(module, find_unused_parameters=True, forward_sync_buffers=False)

    results = {name: train(name, rank_images, wrap) for name in (*LOSSES, PROXIES)}
    for name in ("triplet", "memory"):
        results[f"{name} without gathering"] = train(name, rank_images, wrap, gather=False)
    torch.save(results, Path(folder, f"{rank}.pt"))
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    spawn(run_rank, args=(str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


def difference(ranks, name, expected):
    """Return the largest difference to the expected values, relative to those that exceed one."""
    first, second = (rank[name] for rank in ranks)
    assert set(first) == set(second) == set(expected)
    largest = 0.0
    for key, value in expected.items():
        actual = first[key]
        if key.endswith("loss"):  # losses that do not compare images are means over the images of a rank
            actual = (actual + second[key]) / 2
        else:
            assert torch.equal(actual, second[key]), key
        largest = max(largest, float((actual - value).abs().max() / value.abs().max().clamp_min(1)))
    return largest


@pytest.mark.parametrize("name", [*LOSSES, PROXIES])
def test_losses_and_gradients_match_one_process(name, ranks):
    expected = train(name, slice(None), lambda module: module)
    assert max(float(value.abs().max()) for key, value in expected.items() if key.startswith("1 model")) > 1e-4
    assert difference(ranks, name, expected) < 1e-6


@pytest.mark.parametrize("name", ["triplet", "memory"])
def test_losses_and_gradients_differ_without_gathering(name, ranks):
    """Check that the test above can fail."""
    expected = train(name, slice(None), lambda module: module)
    with pytest.raises(AssertionError):
        assert difference(ranks, f"{name} without gathering", expected) < 1e-4
