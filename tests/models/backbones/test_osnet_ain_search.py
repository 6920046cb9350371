"""Layouts of OSNet-AIN, and the network that holds them all."""

import math
import re

import pytest
import torch
from torch import nn

from reidlit.models.backbones.osnet_ain import BLOCKS, CANDIDATES, PUBLISHED, OSNetAIN
from reidlit.models.backbones.osnet_ain_search import OSNetAINSearch, SearchBlock
from reidlit.models.backbones.osnet_ibn import OSNetIBN

MIXED = ("plain", "sum", "both", "residual", "sum", "both")


def choose(space, layout):
    """Make a layout certain, whatever the noise."""
    for block, candidate in zip(space.positions.values(), layout, strict=True):
        block.logits.data[CANDIDATES.index(candidate)] = 1e4


def on_path(space, layout):
    """The tensors of a layout's candidates, by the names that they have in `OSNetAIN`."""
    chosen, found = dict(zip(BLOCKS, layout, strict=True)), {}
    for name, tensor in space.state_dict().items():
        part = re.match(r"(conv\d\.\d)\.(?:candidates\.(\w+)\.|logits|temperature)", name)
        if part is None:
            found[name] = tensor
        elif part[2] == chosen[part[1]]:
            found[f"{part[1]}.{name[part.end() :]}"] = tensor
    return found


@pytest.mark.parametrize("layout", [PUBLISHED, MIXED])
def test_a_layout_is_one_point_of_the_space(layout):
    """In training too, where norms see the batch; and only the scales and shifts of norms are not in the space."""
    torch.manual_seed(0)
    space = OSNetAINSearch(0.25)
    for module in space.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.8, 1.2)
    choose(space, layout)
    assert space.layout == list(layout)
    network = OSNetAIN(0.25, layout)
    report = network.load_state_dict(on_path(space, layout), strict=False)
    norms = [name for name, m in network.named_modules() if isinstance(m, nn.BatchNorm2d | nn.InstanceNorm2d)]
    assert sorted(report.missing_keys) == sorted(f"{name}.{part}" for name in norms for part in ("weight", "bias"))
    assert report.unexpected_keys == []
    image = torch.randn(3, 3, 64, 32)
    with torch.no_grad():
        for training in (False, True):
            expected, found = (each.train(training)(image) for each in (network, space))
            assert expected.std() > 0.1
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_published_layout_is_the_default_and_another_is_that_of_osnet_ibn():
    networks = []
    for arguments in ({}, {"layout": list(PUBLISHED)}):
        torch.manual_seed(0)
        networks.append(OSNetAIN(0.25, **arguments))
    one, two = (network.state_dict() for network in networks)
    assert list(one) == list(two)
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())
    ours, ibn = OSNetAIN(0.25, ["sum", "sum", *["plain"] * 4]), OSNetIBN(0.25)
    ibn.load_state_dict(ours.state_dict())
    image = torch.randn(2, 3, 64, 32)
    assert torch.equal(ours(image), ibn(image))


@pytest.mark.parametrize("layout", ["plain", [], PUBLISHED[:5], [*PUBLISHED[:5], "instance"]])
def test_a_wrong_layout_is_refused(layout):
    with pytest.raises(ValueError, match=r"layout=.* 6 words, each one of plain, residual, sum, both"):
        OSNetAIN(0.25, layout)


@pytest.mark.parametrize("temperature", [0.5, 4.0])
def test_drawn_weights_are_those_of_the_gumbel_softmax(temperature):
    """Against its theory: which is largest, and how two of them compare, which is a logistic distribution."""
    torch.manual_seed(0)
    block = SearchBlock(64, 64).train()
    block.logits.data = torch.tensor([0.5, -1.0, 0.0, 1.2])
    block.temperature.fill_(temperature)
    draws = 10_000
    with torch.no_grad():
        weights = torch.stack([block.weights() for _ in range(draws)]).double()
    torch.testing.assert_close(weights.sum(1), torch.ones(draws, dtype=torch.float64), rtol=0, atol=1e-6)
    shares = [math.exp(logit) for logit in block.logits.tolist()]
    largest = weights.argmax(1).bincount(minlength=4) / draws
    for found, share in zip(largest.tolist(), shares, strict=True):
        expected = share / sum(shares)
        assert found == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / draws))
    ratio = temperature * (weights[:, 3] / weights[:, 1]).log() - 2.2
    for point in (-3.0, -1.0, 0.0, 1.0, 3.0):
        below = (ratio < point).double().mean().item()
        expected = 1 / (1 + math.exp(-point))
        assert below == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / draws))
    # Without noise where nothing is drawn.
    expected = [share ** (1 / temperature) for share in shares]
    found = block.eval().weights().tolist()
    assert found == pytest.approx([share / sum(expected) for share in expected])


def test_entropy_and_probabilities_are_those_of_the_choice_whatever_the_temperature():
    space = OSNetAINSearch(0.25)
    space.set_temperature(7.0)
    assert list(space.positions) == BLOCKS
    assert space.entropy.tolist() == pytest.approx([math.log(4)] * 6)
    shares = [0.7, 0.1, 0.05, 0.15]
    space.positions["conv3.0"].logits.data = torch.tensor(shares).log() + 3
    space.positions["conv4.1"].logits.data = torch.tensor([0.0, 0.0, 500.0, 0.0])
    assert space.probabilities[2].tolist() == pytest.approx(shares)
    expected = [math.log(4)] * 6
    expected[2], expected[5] = -sum(share * math.log(share) for share in shares), 0.0
    assert space.entropy.tolist() == pytest.approx(expected, abs=1e-6)


def test_evaluation_draws_nothing_and_training_repeats_under_a_seed():
    torch.manual_seed(0)
    space, image = OSNetAINSearch(0.25), torch.randn(2, 3, 32, 16)
    with torch.no_grad():
        assert torch.equal(space.eval()(image), space(image))
        space.train()
        outputs = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            outputs.append(space(image))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


@pytest.mark.parametrize("wanted", CANDIDATES)
def test_the_candidate_that_fits_is_found(wanted):
    """By the gradient of the weights alone: the target is what one of the candidates gives."""
    torch.manual_seed(0)
    block = SearchBlock(32, 64).requires_grad_(False)
    block.logits.requires_grad_(True)
    optimizer = torch.optim.Adam([block.logits], lr=0.5)
    for _ in range(25):
        image = torch.rand(4, 32, 8, 4)
        optimizer.zero_grad()
        (block(image) - block.candidates[wanted](image)).square().mean().backward()
        optimizer.step()
    share = block.logits.softmax(0)[CANDIDATES.index(wanted)].item()
    assert share > 0.9
