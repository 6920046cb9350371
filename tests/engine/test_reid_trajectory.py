"""The losses of the first training steps compared with those of Torchreid."""

import warnings
from copy import deepcopy

import pytest
import torch

from helpers.slow import mostly_slow
from reidlit.config import option
from reidlit.engine.optim import build_optimizer
from reidlit.engine.reid import ReIDModule
from reidlit.models.weights import load_weights

STEPS, PEOPLE, IMAGES = 20, 8, 2


@pytest.fixture
def batches():
    """Normalized float images in PK batches."""
    generator = torch.Generator().manual_seed(1)
    pid = torch.arange(PEOPLE).repeat_interleave(IMAGES)
    people = torch.randn(PEOPLE, 3, 32, 16, generator=generator)
    noise = torch.randn(STEPS, len(pid), 3, 32, 16, generator=generator)
    return [(people[pid] + 0.5 * step_noise, pid) for step_noise in noise]


def torchreid_losses(loss, model, batches):
    """Return the losses of the steps of Torchreid's softmax or triplet engine."""
    losses = pytest.importorskip("torchreid.reid.losses")
    optimizer = pytest.importorskip("torchreid.reid.optim").build_optimizer(model, optim="amsgrad", lr=3e-4)
    softmax = losses.CrossEntropyLoss(PEOPLE, use_gpu=False, label_smooth=True)
    triplet = losses.TripletLoss(0.3)
    values = []
    for image, pid in batches:
        result = model(image)
        value = softmax(result, pid) if loss == "softmax" else triplet(result[1], pid) + softmax(result[0], pid)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    return values


@pytest.mark.parametrize("loss", mostly_slow(["softmax", "softmax_triplet"], {"softmax_triplet"}))
def test_first_twenty_losses_match_torchreid(loss, batches, tmp_path, torchreid_model, monkeypatch):
    """Training amplifies rounding errors, so use float64: in float32, two memory layouts end up 10% apart."""
    monkeypatch.setattr(torch.Tensor, "float", lambda tensor: tensor)  # losses would convert to float32
    batches = [(image.double(), pid) for image, pid in batches]
    torchreid_loss = "softmax" if loss == "softmax" else "triplet"
    reference = torchreid_model("osnet_x0_25", PEOPLE, loss=torchreid_loss).double().train()
    torch.save(reference.state_dict(), tmp_path / "start.pth")
    # Torchreid's build_optimizer has another default for the second beta.
    spec = option("optimizer", "amsgrad") | {"lr": 3e-4, "betas": [0.9, 0.99], "fused": False}
    module = ReIDModule(
        model=option("model", "osnet_x0_25"),
        pids=list(range(PEOPLE)),
        loss=option("loss", loss),
        optimizer=spec,
        channels_last=False,
    ).train()
    load_weights(module.double().model, tmp_path / "start.pth")
    start = deepcopy(module.model.state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Torchreid calls deprecated signatures
        expected = torchreid_losses(loss, reference, batches)

    optimizer = build_optimizer(module.model, spec)
    losses = []
    for image, pid in batches:
        optimizer.zero_grad()
        value, _ = module.loss(module.model(image), pid)
        value.backward()
        optimizer.step()
        losses.append(value.item())
    assert losses == pytest.approx(expected, rel=1e-6)
    weights = {name: p for name, p in module.model.named_parameters() if name.endswith("weight")}
    assert not any(torch.equal(start[name], p) for name, p in weights.items())


def test_channels_last_and_fused_optimizer_do_not_change_a_step(batches):
    """Both are defaults of `reidlit train`. In float64, rounding does not hide differences."""
    image, pid = batches[0][0].double(), batches[0][1]
    weights = []
    for fast in (False, True):
        torch.manual_seed(0)
        module = ReIDModule(
            model=option("model", "osnet_x0_25"),
            pids=list(range(PEOPLE)),
            loss=option("loss", "softmax"),
            channels_last=fast,
        )
        module.double().train()
        optimizer = build_optimizer(module.model, {"_target_": "torch.optim.SGD", "lr": 0.1, "fused": fast})
        module.loss(module.model(image), pid)[0].backward()
        optimizer.step()
        weights.append(module.model.state_dict())
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, rtol=1e-7, atol=1e-9, msg=name)
