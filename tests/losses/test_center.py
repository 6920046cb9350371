"""`CenterLoss` compared with the paper's update rule in float64 loops, and tests shared by all stateful losses."""

import io
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import distributed, nn
from torch.multiprocessing import spawn

from reidlit.config import CONFIG_DIR
from reidlit.engine.distributed import gather
from reidlit.losses import WeightedSum
from reidlit.losses.center import CenterLoss
from reidlit.losses.memory import PrototypeMemory
from reidlit.models import ReIDOutput
from reidlit.spec import accepts, build

SIZES = [6, 3]  # feature sizes of two branches
STATEFUL = {
    "center": lambda: CenterLoss(5, SIZES),
    "mean": lambda: PrototypeMemory(5, SIZES),
    "hardest": lambda: PrototypeMemory(5, SIZES, mode="hardest"),
}
each_stateful_loss = pytest.mark.parametrize("make_loss", STATEFUL.values(), ids=STATEFUL)
# Labels of four batches. Identity 4 never occurs.
BATCHES = [[0, 0, 2, 2, 2, 3], [3, 0, 3, 0, 0, 0], [1, 1, 1, 1, 1, 1], [2, 0, 1, 3, 2, 2]]


def output(*features):
    return ReIDOutput(features[0], features, ())


def random_features(size, dims=SIZES, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(size, dim, generator=generator) for dim in dims]


def mean(values):
    return sum(values) / len(values)


def center_loss(branches, pid, centers):
    """Equation 2, as the mean over images and branches."""
    losses = [(x - c[p]).pow(2).sum() / 2 for x, c in zip(branches, centers, strict=True) for x, p in zip(x, pid)]  # noqa: B905
    return mean(losses)


def updated_centers(x, pid, centers, alpha):
    """Equation 4 and the update of algorithm 1 for one branch."""
    result = centers.clone()
    for j in range(len(centers)):
        differences = [centers[j] - x[i] for i in range(len(pid)) if pid[i] == j]
        if differences:
            result[j] = centers[j] - alpha * sum(differences) / (1 + len(differences))
    return result


@pytest.mark.parametrize("alpha", [0.5, 1.0, 0.0])
def test_losses_gradients_and_centers_match_paper(alpha):
    loss = CenterLoss(5, SIZES, alpha)
    centers = [torch.zeros(5, size, dtype=torch.float64) for size in SIZES]
    for step, pid in enumerate(BATCHES):
        features = [x.requires_grad_() for x in random_features(len(pid), seed=step)]
        exact = [x.detach().double().requires_grad_() for x in features]
        expected = center_loss(exact, pid, centers)
        value = loss(output(*features), torch.tensor(pid))
        assert value.item() == pytest.approx(expected.item(), rel=1e-5)
        gradients, exact_gradients = torch.autograd.grad(value, features), torch.autograd.grad(expected, exact)
        for gradient, exact_gradient in zip(gradients, exact_gradients, strict=True):
            torch.testing.assert_close(gradient.double(), exact_gradient, rtol=1e-4, atol=1e-6)
        centers = [updated_centers(x.detach(), pid, c, alpha) for x, c in zip(exact, centers, strict=True)]
        torch.testing.assert_close(loss.centers.double(), torch.cat(centers, dim=1), rtol=1e-4, atol=1e-6)
    assert loss.centers[4].abs().max() == 0
    assert (loss.centers[:4].abs().max() > 0) == (alpha > 0)


def test_centers_converge_to_identity_means():
    loss, pid, (features,) = CenterLoss(3, [6]), torch.arange(12) % 3, random_features(12, [6])
    for _ in range(40):
        loss(output(features), pid)
    torch.testing.assert_close(loss.centers, torch.stack([features[pid == j].mean(0) for j in range(3)]))


@each_stateful_loss
def test_state_changes_only_in_training(make_loss):
    loss, pid = make_loss(), torch.tensor([0, 0, 1, 1])
    features = random_features(4)
    with torch.no_grad():
        loss(output(*features), pid)
    loss.eval()(output(*features), pid)
    (before,) = loss.state_dict().values()
    assert before.abs().max() == 0
    loss.train()(output(*features), pid)
    (after,) = loss.state_dict().values()
    assert (after != 0).any(1).tolist() == [True, True, False, False, False]
    assert not list(loss.parameters())


@each_stateful_loss
def test_resumed_training_is_bit_identical(make_loss):
    def step(embed, loss, number):
        pid = torch.tensor(BATCHES[number % 4])
        value = loss(output(*embed(random_features(6, [8], seed=number)[0]).split(SIZES, 1)), pid)
        embed.zero_grad()
        value.backward()
        with torch.no_grad():
            for parameter in embed.parameters():
                parameter -= 0.1 * parameter.grad

    torch.manual_seed(0)
    embed, loss, file = nn.Linear(8, sum(SIZES)), make_loss(), io.BytesIO()
    for number in range(8):
        if number == 5:
            torch.save([embed.state_dict(), loss.state_dict()], file)
        step(embed, loss, number)
    resumed_embed, resumed_loss = nn.Linear(8, sum(SIZES)), make_loss()
    file.seek(0)
    for module, state in zip((resumed_embed, resumed_loss), torch.load(file, weights_only=True), strict=True):
        module.load_state_dict(state)
    for number in range(5, 8):
        step(resumed_embed, resumed_loss, number)
    expected = embed.state_dict() | loss.state_dict()
    actual = resumed_embed.state_dict() | resumed_loss.state_dict()
    assert all(torch.equal(tensor, actual[name]) for name, tensor in expected.items())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@each_stateful_loss
def test_mixed_precision_does_not_change_loss(make_loss, dtype):
    pid, features = torch.tensor(BATCHES[0]), random_features(6)
    losses = [make_loss() for _ in range(3)]
    for loss in losses:
        loss(output(*random_features(6, seed=1)), pid)
    half = [x.to(dtype) for x in features]
    rounded = losses[0](output(*(x.float() for x in half)), pid)
    with torch.autocast("cpu", dtype):
        mixed = losses[1](output(*half), pid)
    assert mixed.dtype == torch.float32
    assert torch.equal(mixed, rounded)
    assert all(map(torch.equal, losses[0].state_dict().values(), losses[1].state_dict().values()))
    (state,) = losses[2].to(torch.bfloat16).state_dict().values()  # as with trainer.precision=bf16-true
    losses[2](output(*(x.bfloat16() for x in features)), pid)
    assert state.dtype == torch.bfloat16
    torch.testing.assert_close(state.float(), *losses[0].state_dict().values(), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("pids", [[0], [1, 1, 1, 1], [0, 1, 2, 3]], ids=["one image", "one identity", "singletons"])
@pytest.mark.parametrize("spread", [0.0, 1.0], ids=["identical", "different"])
@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@each_stateful_loss
def test_small_batches_stay_finite(make_loss, pids, spread):
    loss, pid = make_loss(), torch.tensor(pids)
    for seed in range(3):  # identities are new in the first batch only
        features = [(1 + spread * x).requires_grad_() for x in random_features(len(pids), seed=seed)]
        with torch.autograd.detect_anomaly(check_nan=True):
            value = loss(output(*features), pid)
            value.backward()
        assert value.isfinite()
        assert all(x.grad.isfinite().all() for x in features)
        assert all(tensor.isfinite().all() for tensor in loss.state_dict().values())


@each_stateful_loss
def test_image_order_does_not_change_loss(make_loss):
    pid, order = torch.tensor(BATCHES[0]), torch.tensor([3, 0, 5, 1, 4, 2])
    one, two = make_loss(), make_loss()
    for seed in range(3):
        features = random_features(6, seed=seed)
        torch.testing.assert_close(one(output(*features), pid), two(output(*(x[order] for x in features)), pid[order]))
    torch.testing.assert_close(*one.state_dict().values(), *two.state_dict().values())


def run_rank(rank, folder):
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.save(final_state(slice(rank * 3, rank * 3 + 3)), Path(folder, f"{rank}.pt"))
    distributed.destroy_process_group()


def final_state(rank_images):
    """Return the state of all stateful losses after `BATCHES`, from the images of this rank in each batch."""
    loss = WeightedSum({name: make_loss() for name, make_loss in STATEFUL.items()})
    for step, pid in enumerate(BATCHES):
        rank_output = output(*(x[rank_images].requires_grad_() for x in random_features(6, seed=step)))
        labels = torch.tensor(pid)[rank_images]
        total, _ = loss(rank_output, labels, gather(rank_output, labels))
        total.backward()
    return loss.state_dict()


@pytest.mark.slow
def test_two_processes_have_the_state_of_one(tmp_path):
    spawn(run_rank, args=(str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    for name, tensor in final_state(slice(None)).items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], tensor)


@pytest.mark.parametrize("alpha", [-0.1, 1.5, float("nan")])
def test_invalid_alpha_raises(alpha):
    with pytest.raises(ValueError, match=f"alpha={alpha}"):
        CenterLoss(5, SIZES, alpha)


@pytest.mark.parametrize(
    ("name", "weights", "sampler"),
    [
        ("softmax_center", {"softmax": 1.0, "center": 5e-4}, "RandomBatches"),
        ("bag_of_tricks", {"softmax": 1.0, "triplet": 1.0, "center": 5e-4}, "IdentityBatches"),
        ("agw", {"softmax": 1.0, "weighted_triplet": 1.0, "center": 5e-4}, "IdentityBatches"),
    ],
)
def test_config_matches_paper(name, weights, sampler):
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("train", [f"loss={name}"])
    assert cfg.sampler._target_.endswith(sampler)
    sizes = {"num_classes": 5, "feature_sizes": SIZES}
    losses = {key: build(spec, **accepts(spec, sizes)) for key, spec in cfg.loss.losses.items()}
    weighted_sum = WeightedSum(losses, cfg.loss.weights, cfg.loss.starts)
    assert weighted_sum.weights == weights
    assert losses["softmax"].label_smoothing == 0.1
    assert losses["center"].alpha == CenterLoss(5, SIZES).alpha == 0.5
    logits = tuple(random_features(6, [5, 5], seed=1))
    features = [x.requires_grad_() for x in random_features(6)]
    total, terms = weighted_sum(ReIDOutput(features[0], tuple(features), logits), torch.tensor(BATCHES[0]))
    assert total.item() == pytest.approx(sum(weight * terms[key].item() for key, weight in weights.items()), rel=1e-5)
    assert all(gradient.abs().max() > 0 for gradient in torch.autograd.grad(total, features))
