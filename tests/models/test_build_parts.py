"""Every pooling, neck and classifier of conf/ fits into a model."""

import pytest
import torch
from torch.nn import functional

from reidlit.config import option, options
from reidlit.models import ReIDOutput
from reidlit.models.backbones.timm_network import TimmNetwork
from reidlit.spec import build

PARTS = ("pool", "neck", "classifier")
CASES = [
    *((pool, "bnneck", "cosine") for pool in options("model/pool")),
    *(("average", neck, "linear") for neck in options("model/neck")),
]


class VectorNetwork(TimmNetwork):
    """Ends in a vector itself, as `no_pool` wants it."""

    def forward(self, image):
        return super().forward(image).mean((2, 3))


class TwoVectorNetwork(TimmNetwork):
    """Ends in two."""

    def forward(self, image):
        x = super().forward(image)
        return x.mean((2, 3)), x.amax((2, 3))


def spec(pool, neck, classifier):
    names = dict(zip(PARTS, (pool, neck, classifier), strict=True))
    found = option("model", "resnet18") | {part: option(f"model/{part}", name) for part, name in names.items()}
    if pool == "no_pool":
        found["backbone"]["_target_"] = f"{__name__}.VectorNetwork"
    return found | {"image_size": [64, 32]}


def check(model):
    """Shapes in both modes, and a finite gradient to every parameter that wants one."""
    branches = model.pool.num_branches
    pid = torch.arange(4)
    torch.manual_seed(0)
    image = torch.randn(4, 3, 64, 32)
    for mode in (False, True):
        output = model.train(mode)(image)
        assert isinstance(output, ReIDOutput)
        assert output.embedding.shape == (4, model.embedding_size)
        assert len(output.features) == branches
        assert [logits.shape for logits in output.logits] == [(4, 7)] * branches
    assert model.embed(image).shape == (4, model.embedding_size)
    sum(functional.cross_entropy(logits, pid) for logits in output.logits).backward()
    wanted = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    assert [name for name, grad in wanted.items() if grad is None or not grad.isfinite().all()] == []


@pytest.mark.parametrize("names", CASES, ids="-".join)
def test_parts_fit_each_other(names):
    check(build(spec(*names), num_classes=7))


@pytest.mark.parametrize("shared", [[], ["neck", "classifier"]])
def test_network_that_ends_in_several_vectors(shared):
    found = spec("no_pool", "bnneck", "linear") | {"shared": shared}
    found["backbone"]["_target_"] = f"{__name__}.TwoVectorNetwork"
    found["pool"]["num_branches"] = 2
    model = build(found, num_classes=7)
    assert len(model.neck) == len(model.classifier) == (1 if shared else 2)
    check(model)
