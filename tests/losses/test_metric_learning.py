"""The adapter of pytorch-metric-learning: every loss that it offers, and ours beside theirs."""

import io
import sys

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch.nn import functional

from reidlit.config import CONFIG_DIR
from reidlit.engine.optim import build_optimizer
from reidlit.losses import SupCon, WeightedSum
from reidlit.losses.metric_learning import LEFT_OUT, MetricLearning, known_losses
from reidlit.models import ReIDOutput
from reidlit.spec import accepts, build

theirs = pytest.importorskip("pytorch_metric_learning.losses")
SIZES = [6, 3]
LABELS = torch.tensor([700, 3, 88, 12])[torch.arange(12) % 4]  # as classes of a large training set
NEEDED = {"RankedListLoss": {"margin": 0.4, "Tn": 1}}
BY_ORDER = ("NPairsLoss",)  # takes the first two images of each identity
SINGLETONS_ARE_NAN = ("NCALoss",)
of_each = pytest.mark.parametrize("name", known_losses())


def make(name):
    torch.manual_seed(0)
    return MetricLearning(name, 751, SIZES, NEEDED.get(name))


def output(*features):
    return ReIDOutput(features[0], features, ())


def random_features(seed=0, size=12):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(size, dim, generator=generator) for dim in SIZES]


def test_most_losses_of_the_library_are_known():
    assert {"MultiSimilarityLoss", "ProxyAnchorLoss", "SubCenterArcFaceLoss", "P2SGradLoss"} < set(known_losses())
    assert len(known_losses()) >= 30
    assert all(hasattr(theirs, name) for name in LEFT_OUT)


@pytest.mark.filterwarnings("ignore::UserWarning")
@of_each
def test_loss_is_the_mean_of_theirs_over_branches(name):
    loss = make(name)
    features = [x.requires_grad_() for x in random_features()]
    value = loss(output(*features), LABELS)
    expected = sum(each(x, LABELS) for each, x in zip(loss.branches, features, strict=True)) / 2
    torch.testing.assert_close(value, expected)
    assert all(type(each) is getattr(theirs, name) for each in loss.branches)
    trained = [*features, *loss.parameters()]
    for gradient in torch.autograd.grad(value, trained):
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 0


@pytest.mark.filterwarnings("ignore::UserWarning")
@of_each
def test_mixed_precision_and_order_change_nothing_and_nothing_but_the_state_dict_is_kept(name):
    loss, features = make(name), random_features()
    half = [x.bfloat16() for x in features]
    rounded = loss(output(*(x.float() for x in half)), LABELS)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = loss(output(*half), LABELS)
    assert mixed.dtype == torch.float32
    assert torch.equal(mixed, rounded)
    if name not in BY_ORDER:
        order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
        reordered = loss(output(*(x[order] for x in features)), LABELS[order])
        torch.testing.assert_close(reordered, loss(output(*features), LABELS), rtol=1e-4, atol=1e-5)
    file = io.BytesIO()
    torch.save(loss.state_dict(), file)
    file.seek(0)
    fresh = MetricLearning(name, 751, SIZES, NEEDED.get(name))
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(fresh(output(*features), LABELS), loss(output(*features), LABELS))


@pytest.mark.parametrize("pids", [[3] * 4, [1, 2, 3, 4]], ids=["one identity", "singletons"])
@pytest.mark.filterwarnings("ignore::UserWarning")
@of_each
def test_batches_with_little_to_compare_are_finite(name, pids):
    features = [x.requires_grad_() for x in random_features(size=4)]
    value = make(name)(output(*features), torch.tensor(pids))
    if not (name in SINGLETONS_ARE_NAN and len(set(pids)) == 4):
        value.backward()
        assert value.isfinite()
        assert all(x.grad is None or x.grad.isfinite().all() for x in features)


def test_options_and_the_whole_batch_reach_the_loss():
    (features, _), pid = random_features(), torch.arange(12) % 4
    loss = MetricLearning("SupConLoss", 4, [6], {"temperature": 0.3})
    whole = loss(output(features), pid)
    torch.testing.assert_close(whole, SupCon(0.3)(output(features), pid))
    _, each = WeightedSum({"supcon": loss})(output(features[:6]), pid[:6], (output(features), pid))
    assert each["supcon"] == whole  # of the batch of all devices
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
    ("name", "options", "words"),
    [
        (
            "MultiSimilarity",
            None,
            "name='MultiSimilarity' is no loss .* choose one of AngularLoss, .*, TupletMarginLoss",
        ),
        ("os.system", None, "name='os.system' is no loss"),
        ("c_f", None, "name='c_f' is no loss"),
        ("CrossBatchMemory", None, "is no loss of pytorch-metric-learning that goes by labels"),
        ("SmoothAPLoss", None, "name='SmoothAPLoss' goes by the order of the images .*loss=smooth_ap"),
        ("MultiSimilarityLoss", {"gamma": 1}, r"options={'gamma': 1} do not fit .*, which takes alpha, beta, base,"),
        ("RankedListLoss", {}, "RankedListLoss, which takes margin, Tn, .* missing 2 required"),
        ("CosFaceLoss", {"scales": 3}, "CosFaceLoss, which takes margin, scale, num_classes, embedding_size"),
    ],
)
def test_bad_values_are_named(name, options, words):
    with pytest.raises(ValueError, match=words):
        MetricLearning(name, 4, [6], options)


def test_without_the_library_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_metric_learning.losses", None)
    with pytest.raises(ValueError, match=r"pip install 'reidlit\[metric-learning\]'"):
        MetricLearning("MultiSimilarityLoss", 4, [6])


def test_option_builds_and_brings_identity_batches():
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("train", ["loss=metric_learning", "+loss.losses.metric_learning.options.alpha=3"])
    assert cfg.sampler._target_.endswith("IdentityBatches")
    spec = cfg.loss.losses.metric_learning
    (loss,) = build(spec, **accepts(spec, {"num_classes": 4, "feature_sizes": [6]})).branches
    assert isinstance(loss, theirs.MultiSimilarityLoss)
    assert loss.alpha == 3
