"""Properties of all batch samplers: exact length, splitting over ranks and reproducibility."""

import random
from functools import partial

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch.utils.data import DataLoader

from helpers.samplers import UNEVEN, batches, indices
from reidlit.data.sample import Draw
from reidlit.data.samplers import (
    CameraIdentityBatches,
    DatasetBatches,
    DomainBatches,
    IdentityBatches,
    RandomBatches,
    SequentialBatches,
    WeightedBatches,
)

SAMPLERS = {
    "random": RandomBatches,
    "sequential": partial(SequentialBatches, drop_last=True),
    "identity": IdentityBatches,
    "camera_identity": CameraIdentityBatches,
    "domain": partial(DomainBatches, num_cams=2),
    "dataset": DatasetBatches,
    "weighted": partial(WeightedBatches, weights=[1, 4.3]),
}


@pytest.mark.parametrize("make", SAMPLERS.values(), ids=SAMPLERS)
class TestAll:
    def test_draw_numbers_count_up_over_epochs(self, make):
        sampler = make(UNEVEN, 16, seed=1)
        numbers = [draw.number for epoch in range(3) for batch in batches(sampler, epoch) for draw in batch]
        assert numbers == list(range(3 * 16 * len(sampler)))

    def test_draws_hold_python_integers(self, make):
        draw = batches(make(UNEVEN, 16, seed=1))[0][0]
        assert type(draw) is Draw
        assert type(draw.index) is int
        assert type(draw.number) is int

    @pytest.mark.parametrize("seed", range(30))
    def test_length_is_exact(self, make, seed):
        sampler = make(UNEVEN, 8, seed=seed)
        for epoch in range(3):
            epoch_batches = batches(sampler, epoch)
            assert len(epoch_batches) == len(sampler)
            assert {len(batch) for batch in epoch_batches} == {8}

    @pytest.mark.parametrize("world_size", [2, 4, 8])
    def test_ranks_split_the_global_batches(self, make, world_size):
        expected = batches(make(UNEVEN, 16, seed=5), epoch=2)
        ranks = [batches(make(UNEVEN, 16, seed=5, rank=r, world_size=world_size), epoch=2) for r in range(world_size)]
        assert all(len(rank) == len(expected) for rank in ranks)
        for batch, *rank_batches in zip(expected, *ranks, strict=True):
            assert {len(rank_batch) for rank_batch in rank_batches} == {16 // world_size}
            assert [draw for rank_batch in rank_batches for draw in rank_batch] == batch

    def test_order_depends_on_seed_and_epoch(self, make):
        first = indices(make(UNEVEN, 16, seed=5), 1)
        repeated = make(UNEVEN, 16, seed=5)
        others = [indices(repeated, 0), indices(repeated, 2), indices(make(UNEVEN, 16, seed=6), 1)]
        assert indices(repeated, 1) == first
        is_sequential = make is SAMPLERS["sequential"]  # always the same order
        assert [other == first for other in others] == [is_sequential] * 3

    def test_global_generators_are_neither_read_nor_advanced(self, make):
        random.seed(0), np.random.seed(0), torch.manual_seed(0)  # noqa: NPY002
        before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
        first = batches(make(UNEVEN, 16, seed=5))
        assert before == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # noqa: NPY002
        random.seed(9), np.random.seed(9), torch.manual_seed(9)  # noqa: NPY002
        assert batches(make(UNEVEN, 16, seed=5)) == first

    def test_lightning_reaches_set_epoch(self, make):
        from lightning_fabric.utilities.data import _set_sampler_epoch

        sampler = make(UNEVEN, 16, seed=0)
        loader = DataLoader(UNEVEN, batch_sampler=sampler)
        _set_sampler_epoch(loader, 4)
        assert sampler.epoch == 4
        assert len(loader) == len(sampler)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"batch_size": 0}, "batch_size=0"),
            ({"world_size": 3}, r"batch_size=16\b.*\b15\b"),
            ({"rank": 1}, "rank=1"),
            ({"rank": -1}, "rank=-1"),
            ({"world_size": 0}, "world_size=0"),
            ({"seed": -1}, "seed=-1"),
            ({"samples": []}, "batch_size=16"),
            ({"samples": UNEVEN[:3]}, "batch_size=16"),
        ],
    )
    def test_errors(self, make, arguments, message):
        with pytest.raises(ValueError, match=message):
            make(**{"samples": UNEVEN, "batch_size": 16, "seed": 0, **arguments})

    def test_negative_epoch_is_rejected(self, make):
        with pytest.raises(ValueError, match="epoch=-1"):
            make(UNEVEN, 16, seed=0).set_epoch(-1)


@pytest.mark.parametrize("name", SAMPLERS)
def test_config_builds_sampler(name, pytestconfig):
    settings = OmegaConf.load(pytestconfig.rootpath / "conf" / "sampler" / f"{name}.yaml")
    sampler = instantiate(settings)(samples=UNEVEN[:96], batch_size=24, seed=0, rank=1, world_size=2)
    assert {len(batch) for batch in sampler} == {12}
