"""`MetricLearning` with every supported loss of pytorch-metric-learning."""

import io
import sys

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch.nn import functional

from reidlit.config import CONFIG_DIR
from reidlit.engine.optim import build_optimizer
from reidlit.losses import SupCon, WeightedSum
from reidlit.losses.metric_learning import UNSUPPORTED, MetricLearning, supported_losses
from reidlit.models import ReIDOutput
from reidlit.spec import accepts, build

library_losses = pytest.importorskip("pytorch_metric_learning.losses")
SIZES = [6, 3]
LABELS = torch.tensor([700, 3, 88, 12])[torch.arange(12) % 4]  # four classes of a large training set
REQUIRED_OPTIONS = {"RankedListLoss": {"margin": 0.4, "Tn": 1}}
ORDER_DEPENDENT = ("NPairsLoss",)  # uses the first two images of each identity
NAN_FOR_SINGLETONS = ("NCALoss",)
each_loss = pytest.mark.parametrize("name", supported_losses())


def make_loss(name):
    torch.manual_seed(0)
    return MetricLearning(name, 751, SIZES, REQUIRED_OPTIONS.get(name))


def output(*features):
    return ReIDOutput(features[0], features, ())


def random_features(seed=0, size=12):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(size, dim, generator=generator) for dim in SIZES]


def test_most_library_losses_are_supported():
    assert {"MultiSimilarityLoss", "ProxyAnchorLoss", "SubCenterArcFaceLoss", "P2SGradLoss"} < set(supported_losses())
    assert len(supported_losses()) >= 30
    assert all(hasattr(library_losses, name) for name in UNSUPPORTED)


@pytest.mark.filterwarnings("ignore::UserWarning")
@each_loss
def test_loss_is_mean_over_branches(name):
    loss = make_loss(name)
    features = [x.requires_grad_() for x in random_features()]
    value = loss(output(*features), LABELS)
    expected = sum(branch(x, LABELS) for branch, x in zip(loss.branches, features, strict=True)) / 2
    torch.testing.assert_close(value, expected)
    assert all(type(branch) is getattr(library_losses, name) for branch in loss.branches)
    for gradient in torch.autograd.grad(value, [*features, *loss.parameters()]):
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 0


@pytest.mark.filterwarnings("ignore::UserWarning")
@each_loss
def test_precision_order_and_reloading_do_not_change_loss(name):
    loss, features = make_loss(name), random_features()
    half = [x.bfloat16() for x in features]
    expected = loss(output(*(x.float() for x in half)), LABELS)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = loss(output(*half), LABELS)
    assert mixed.dtype == torch.float32
    assert torch.equal(mixed, expected)
    if name not in ORDER_DEPENDENT:
        order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
        reordered = loss(output(*(x[order] for x in features)), LABELS[order])
        torch.testing.assert_close(reordered, loss(output(*features), LABELS), rtol=1e-4, atol=1e-5)
    file = io.BytesIO()
    torch.save(loss.state_dict(), file)
    file.seek(0)
    reloaded = MetricLearning(name, 751, SIZES, REQUIRED_OPTIONS.get(name))
    reloaded.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(reloaded(output(*features), LABELS), loss(output(*features), LABELS))


@pytest.mark.parametrize("pids", [[3] * 4, [1, 2, 3, 4]], ids=["one identity", "singletons"])
@pytest.mark.filterwarnings("ignore::UserWarning")
@each_loss
def test_small_batches_stay_finite(name, pids):
    features = [x.requires_grad_() for x in random_features(size=4)]
    value = make_loss(name)(output(*features), torch.tensor(pids))
    if not (name in NAN_FOR_SINGLETONS and len(set(pids)) == 4):
        value.backward()
        assert value.isfinite()
        assert all(x.grad is None or x.grad.isfinite().all() for x in features)


def test_loss_receives_options_and_batch_of_all_devices():
    (features, _), pid = random_features(), torch.arange(12) % 4
    loss = MetricLearning("SupConLoss", 4, [6], {"temperature": 0.3})
    expected = loss(output(features), pid)
    torch.testing.assert_close(expected, SupCon(0.3)(output(features), pid))
    _, terms = WeightedSum({"supcon": loss})(output(features[:6]), pid[:6], (output(features), pid))
    assert terms["supcon"] == expected
    assert MetricLearning("MarginLoss", 4, [6], {"learn_beta": True}).branches[0].beta.shape == (4,)
    assert MetricLearning("ProxyAnchorLoss", 4, [6], {"num_classes": 9}).branches[0].proxies.shape == (9, 6)


def test_proxies_are_trained_without_weight_decay():
    pid, embed, loss = torch.arange(12) % 4, torch.nn.Linear(6, 6), MetricLearning("ProxyAnchorLoss", 4, [6])
    optimizer = build_optimizer(embed, {"_target_": "torch.optim.AdamW", "lr": 0.05, "weight_decay": 0.1}, loss)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
    before, losses = loss.branches[0].proxies.detach().clone(), []
    for _ in range(30):
        optimizer.zero_grad()
        losses.append(loss(output(embed(random_features()[0])), pid))
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0] / 2
    assert not torch.isclose(functional.normalize(before), functional.normalize(loss.branches[0].proxies)).all()


@pytest.mark.parametrize(
    ("name", "options", "pattern"),
    [
        ("MultiSimilarity", None, "name='MultiSimilarity'.*AngularLoss, .*, TupletMarginLoss"),
        ("os.system", None, r"name='os\.system'"),
        ("c_f", None, "name='c_f'"),
        ("CrossBatchMemory", None, "name='CrossBatchMemory'"),
        ("SmoothAPLoss", None, "name='SmoothAPLoss'.*loss=smooth_ap"),
        ("MultiSimilarityLoss", {"gamma": 1}, r"options={'gamma': 1}.*MultiSimilarityLoss.*alpha, beta, base,"),
        ("RankedListLoss", {}, r"options={}.*RankedListLoss.*'margin' and 'Tn'.*margin, Tn,"),
        (
            "CosFaceLoss",
            {"scales": 3},
            "options={'scales': 3}.*CosFaceLoss.*margin, scale, num_classes, embedding_size",
        ),
    ],
)
def test_invalid_arguments_raise(name, options, pattern):
    with pytest.raises(ValueError, match=pattern):
        MetricLearning(name, 4, [6], options)


def test_missing_library_raises_with_install_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_metric_learning.losses", None)
    with pytest.raises(ValueError, match=r"pip install 'reidlit\[metric-learning\]'"):
        MetricLearning("MultiSimilarityLoss", 4, [6])


def test_config_builds_loss_with_identity_batches():
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("train", ["loss=metric_learning", "+loss.losses.metric_learning.options.alpha=3"])
    assert cfg.sampler._target_.endswith("IdentityBatches")
    spec = cfg.loss.losses.metric_learning
    (loss,) = build(spec, **accepts(spec, {"num_classes": 4, "feature_sizes": [6]})).branches
    assert isinstance(loss, library_losses.MultiSimilarityLoss)
    assert loss.alpha == 3
