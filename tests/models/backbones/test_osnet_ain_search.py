"""Architecture search of OSNet-AIN, and its layouts."""

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
    """Select a layout with near certainty in spite of the noise."""
    for block, candidate in zip(space.positions.values(), layout, strict=True):
        block.logits.data[CANDIDATES.index(candidate)] = 1e4


def on_path(space, layout):
    """Return the tensors of the candidates of a layout by their names in `OSNetAIN`."""
    candidates, tensors = dict(zip(BLOCKS, layout, strict=True)), {}
    for name, tensor in space.state_dict().items():
        match = re.match(r"(conv\d\.\d)\.(?:candidates\.(\w+)\.|logits|temperature)", name)
        if match is None:
            tensors[name] = tensor
        elif match[2] == candidates[match[1]]:
            tensors[f"{match[1]}.{name[match.end() :]}"] = tensor
    return tensors


@pytest.mark.parametrize("layout", [PUBLISHED, MIXED])
def test_search_network_contains_every_layout(layout):
    """Also in training, where norms use batch statistics. Only scales and shifts of norms are missing."""
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
            expected, actual = (each.train(training)(image) for each in (network, space))
            assert expected.std() > 0.1
            torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_default_layout_is_published_and_another_equals_osnet_ibn():
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
def test_invalid_layout_raises(layout):
    with pytest.raises(ValueError, match=r"layout=.*\b6\b.* plain, residual, sum, both"):
        OSNetAIN(0.25, layout)


@pytest.mark.parametrize("temperature", [0.5, 4.0])
def test_random_weights_follow_gumbel_softmax(temperature):
    """The largest weight is distributed like softmax(l); log ratios of two weights follow a logistic distribution."""
    torch.manual_seed(0)
    block = SearchBlock(64, 64).train()
    block.logits.data = torch.tensor([0.5, -1.0, 0.0, 1.2])
    block.temperature.fill_(temperature)
    draws = 10_000
    with torch.no_grad():
        weights = torch.stack([block.weights() for _ in range(draws)]).double()
    torch.testing.assert_close(weights.sum(1), torch.ones(draws, dtype=torch.float64), rtol=0, atol=1e-6)
    odds_list = [math.exp(logit) for logit in block.logits.tolist()]
    largest = weights.argmax(1).bincount(minlength=4) / draws
    for actual, odds in zip(largest.tolist(), odds_list, strict=True):
        expected = odds / sum(odds_list)
        assert actual == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / draws))
    ratio = temperature * (weights[:, 3] / weights[:, 1]).log() - 2.2
    for point in (-3.0, -1.0, 0.0, 1.0, 3.0):
        below = (ratio < point).double().mean().item()
        expected = 1 / (1 + math.exp(-point))
        assert below == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / draws))
    # Evaluation uses no noise.
    expected = [odds ** (1 / temperature) for odds in odds_list]
    actual = block.eval().weights().tolist()
    assert actual == pytest.approx([odds / sum(expected) for odds in expected])


def test_entropy_and_probabilities_do_not_depend_on_temperature():
    space = OSNetAINSearch(0.25)
    space.set_temperature(7.0)
    assert list(space.positions) == BLOCKS
    assert space.entropy.tolist() == pytest.approx([math.log(4)] * 6)
    probabilities = [0.7, 0.1, 0.05, 0.15]
    space.positions["conv3.0"].logits.data = torch.tensor(probabilities).log() + 3
    space.positions["conv4.1"].logits.data = torch.tensor([0.0, 0.0, 500.0, 0.0])
    assert space.probabilities[2].tolist() == pytest.approx(probabilities)
    expected = [math.log(4)] * 6
    expected[2], expected[5] = -sum(probability * math.log(probability) for probability in probabilities), 0.0
    assert space.entropy.tolist() == pytest.approx(expected, abs=1e-6)


def test_evaluation_is_deterministic_and_training_is_reproducible():
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


@pytest.mark.parametrize("target", CANDIDATES)
def test_gradient_finds_the_matching_candidate(target):
    """Only the logits are trained; the target is the output of one candidate."""
    torch.manual_seed(0)
    block = SearchBlock(32, 64).requires_grad_(False)
    block.logits.requires_grad_(True)
    optimizer = torch.optim.Adam([block.logits], lr=0.5)
    for _ in range(25):
        image = torch.rand(4, 32, 8, 4)
        optimizer.zero_grad()
        (block(image) - block.candidates[target](image)).square().mean().backward()
        optimizer.step()
    probability = block.logits.softmax(0)[CANDIDATES.index(target)].item()
    assert probability > 0.9
