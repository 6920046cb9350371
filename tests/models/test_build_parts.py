"""Models with every pooling, neck and classifier of conf/."""

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
    """Network that returns a vector, as `no_pool` requires."""

    def forward(self, image):
        return super().forward(image).mean((2, 3))


class TwoVectorNetwork(TimmNetwork):
    """Network that returns two vectors."""

    def forward(self, image):
        x = super().forward(image)
        return x.mean((2, 3)), x.amax((2, 3))


def spec(pool, neck, classifier):
    names = dict(zip(PARTS, (pool, neck, classifier), strict=True))
    spec_dict = option("model", "resnet18") | {part: option(f"model/{part}", name) for part, name in names.items()}
    if pool == "no_pool":
        spec_dict["backbone"]["_target_"] = f"{__name__}.VectorNetwork"
    return spec_dict | {"image_size": [64, 32]}


def check(model):
    """Check shapes in both modes, and that all trainable parameters receive finite gradients."""
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
    gradients = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    assert [name for name, grad in gradients.items() if grad is None or not grad.isfinite().all()] == []


@pytest.mark.parametrize("names", CASES, ids="-".join)
def test_components_fit_together(names):
    check(build(spec(*names), num_classes=7))


@pytest.mark.parametrize("shared", [[], ["neck", "classifier"]])
def test_network_with_several_vectors(shared):
    spec_dict = spec("no_pool", "bnneck", "linear") | {"shared": shared}
    spec_dict["backbone"]["_target_"] = f"{__name__}.TwoVectorNetwork"
    spec_dict["pool"]["num_branches"] = 2
    model = build(spec_dict, num_classes=7)
    assert len(model.neck) == len(model.classifier) == (1 if shared else 2)
    check(model)
