"""Knowledge distillation: losses compared with loops, a fixed teacher, and a student that works without it."""

from itertools import combinations, permutations

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from reidlit.config import option
from reidlit.engine.distillation import DistillationModule, Teacher
from reidlit.engine.reid import ReIDModule
from reidlit.losses.distillation import RelationalAngle, RelationalDistance, SoftTargets

OSNET, SHUFFLENET = option("model", "osnet_x0_25"), option("model", "shufflenet_v2_x0_5")
TRAINING = {
    "loss": {"losses": {"softmax": {"_target_": "reidlit.losses.CrossEntropy"}}},
    "optimizer": option("optimizer", "sgd") | {"lr": 0.01},
    "scheduler": option("scheduler", "constant"),
}
ALL = {"soft_targets": 1.0, "relational_distance": 2.0, "relational_angle": 3.0}


def save(trained, path):
    content = {"state_dict": trained.state_dict(), "hyper_parameters": dict(trained.hparams)}
    torch.save(content | {"pytorch-lightning_version": "2.6.4"}, path)


@pytest.fixture
def teacher(tmp_path):
    """Checkpoint of another network with a larger image size."""
    torch.manual_seed(1)
    save(ReIDModule(SHUFFLENET, [3, 5, 8], TRAINING["loss"], image_size=[96, 48]), tmp_path / "teacher.ckpt")
    return tmp_path / "teacher.ckpt"


def module(**changes):
    torch.manual_seed(0)
    return DistillationModule(**{"model": OSNET, "pids": [3, 5, 8], "image_size": [64, 32], **TRAINING} | changes)


def batch(seed=0):
    torch.manual_seed(seed)
    pid = torch.tensor([0, 0, 1, 2])
    return {"image": torch.randint(0, 256, (4, 3, 64, 32), dtype=torch.uint8), "pid": pid, "camid": pid, "index": pid}


def fit(student, **options):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(accelerator="cpu", max_epochs=1, enable_model_summary=False, **quiet, **options)
    trainer.fit(student, DataLoader([batch(step) for step in range(3)], batch_size=None))
    return trainer


def test_soft_targets_match_paper():
    torch.manual_seed(0)
    student, teacher = [torch.randn(6, 5, requires_grad=True) for _ in range(2)], [torch.randn(6, 5) for _ in range(3)]
    target = sum((logits / 4).softmax(1) for logits in teacher) / 3
    divergences = [(target * (target / (logits / 4).softmax(1)).log()).sum() / 6 for logits in student]
    expected = 16 * sum(divergences) / 2
    actual = SoftTargets(4.0)(student, teacher)
    torch.testing.assert_close(actual, expected)
    (gradient,), (expected_gradient,) = (torch.autograd.grad(loss, student[0]) for loss in (actual, expected))
    torch.testing.assert_close(gradient, expected_gradient)
    assert SoftTargets(4.0)([student[0]], [student[0]]).item() == pytest.approx(0, abs=1e-6)


def huber(x):
    return 0.5 * x * x if abs(x) <= 1 else abs(x) - 0.5


@pytest.mark.parametrize("images", [[0, 1, 2, 3, 4], [0, 0, 1, 2, 3]])
def test_relational_losses_match_loop(images):
    """In the second case, two student embeddings coincide. The cosine of angles between them is 0."""
    torch.manual_seed(0)
    student, teacher = torch.randn(5, 8, dtype=torch.float64)[images], 9 * torch.randn(5, 3, dtype=torch.float64).exp()

    def distances(x):
        values = [(x[i] - x[j]).norm().item() for i, j in combinations(range(5), 2)]
        return [value / (sum(values) / len(values)) for value in values]

    def angles(x):
        return [
            torch.cosine_similarity(x[i] - x[j], x[k] - x[j], dim=0).item() for i, j, k in permutations(range(5), 3)
        ]

    for loss, relation in ((RelationalDistance(), distances), (RelationalAngle(), angles)):
        terms = [huber(a - b) for a, b in zip(relation(student), relation(teacher), strict=True)]
        expected = sum(terms) / len(terms)
        assert loss(student, teacher).item() == pytest.approx(expected, rel=1e-5)
        assert loss(student, 7 * student + 3).item() == pytest.approx(0, abs=1e-6)
        with torch.autocast("cpu", torch.bfloat16):
            half = loss(student.float(), teacher.float())
        assert half.item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("loss", [RelationalDistance(), RelationalAngle()])
def test_relational_losses_of_degenerate_batches_are_finite(loss):
    for student in (torch.randn(4, 8)[[0, 0, 1, 2]], torch.ones(4, 8), torch.randn(1, 8), torch.randn(2, 8)):
        student.requires_grad_(True)
        value = loss(student, torch.randn(len(student), 3))
        value.backward()
        assert value.isfinite()
        assert student.grad.abs().max() < 10


def test_teacher_resizes_images_to_its_size(teacher):
    loaded = Teacher(str(teacher), torch.device("cpu"))
    model = ReIDModule.load_from_checkpoint(teacher).eval().model
    image = torch.randint(0, 256, (2, 3, 96, 48), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(loaded({"image": image, "camid": None}).logits, model(image).logits)
        # Resizing does not change images of one color.
        color = torch.randint(0, 256, (2, 3, 1, 1), dtype=torch.uint8)
        large, small = color.expand(2, 3, 96, 48), color.expand(2, 3, 64, 32)
        embedding = loaded({"image": small, "camid": None}).embedding
        torch.testing.assert_close(embedding, model(large).embedding, rtol=1e-4, atol=1e-4)


def test_student_learns_and_teacher_does_not_change(teacher, tmp_path):
    before = torch.load(teacher, weights_only=True)["state_dict"]
    student = module(teacher=str(teacher), weights=ALL, temperature=2.0)
    names = set(student.state_dict())
    trainer = fit(student, precision="bf16-mixed", accumulate_grad_batches=2)
    assert not student.teacher.model.training
    for name, tensor in student.teacher.model.state_dict().items():
        assert torch.equal(tensor, before[f"model.{name}"])
    assert not any(parameter.requires_grad for parameter in student.teacher.model.parameters())
    assert set(student.state_dict()) == names
    trained = {id(p) for group in trainer.optimizers[0].param_groups for p in group["params"]}
    assert trained == {id(p) for p in student.model.parameters()}
    logged = trainer.callback_metrics
    terms = sum(weight * logged[f"train/{name}"] for name, weight in ALL.items())
    torch.testing.assert_close(logged["train/distillation"], terms)
    torch.testing.assert_close(logged["train/loss"], logged["train/softmax"] + terms)

    trainer.save_checkpoint(tmp_path / "student.ckpt")
    teacher.unlink()
    image = batch()["image"]
    with torch.no_grad():
        expected = student.eval()(image)
        for module_class in (ReIDModule, DistillationModule):
            loaded = module_class.load_from_checkpoint(tmp_path / "student.ckpt").eval()
            torch.testing.assert_close(loaded(image), expected)


def test_distillation_is_weighted_sum_of_its_terms(teacher):
    student = module(teacher=str(teacher), weights={"soft_targets": 0.5, "relational_angle": 2.0})
    student.teacher = Teacher(str(teacher), torch.device("cpu"))
    student._trainer = type("Trainer", (), {"current_epoch": 0})
    images = batch()
    output, target = student.model(images["image"]), student.teacher(images)
    total, terms = student.losses_of(output, images, student.loss)
    soft_targets = SoftTargets(4.0)(output.logits, target.logits)
    angle = RelationalAngle()(output.embedding, target.embedding)
    torch.testing.assert_close(terms["distillation"], 0.5 * soft_targets + 2 * angle)
    torch.testing.assert_close(total, student.loss(output, images["pid"])[0] + terms["distillation"])
    assert "relational_distance" not in terms


def test_teacher_of_other_identities_supports_relations_only(teacher):
    with pytest.raises(ValueError, match=r"engine\.teacher=.*\b3\b.*\b4\b.*engine\.weights\.soft_targets=0"):
        fit(module(pids=[1, 2, 3, 4], teacher=str(teacher)))
    logged = fit(module(pids=[1, 2, 3, 4], teacher=str(teacher), weights={"relational_distance": 1})).callback_metrics
    assert logged["train/distillation"] > 0


@pytest.mark.parametrize(
    ("changes", "error", "pattern"),
    [
        ({"teacher": None}, ValueError, r"engine\.teacher=null"),
        ({"teacher": "nowhere.ckpt"}, FileNotFoundError, r"engine\.teacher=nowhere\.ckpt"),
        ({"weights": {"hints": 1}}, ValueError, r"engine\.weights.*\['hints'\].*soft_targets"),
        ({"weights": {"soft_targets": 0}}, ValueError, r"engine\.weights={'soft_targets': 0}"),
        ({"weights": {"soft_targets": 1, "relational_angle": -1}}, ValueError, r"engine\.weights=.*-1}"),
        ({"temperature": -2}, ValueError, "temperature=-2"),
    ],
)
def test_invalid_arguments_raise(changes, error, pattern):
    with pytest.raises(error, match=pattern):
        fit(module(**changes))


def test_weight_file_as_teacher_raises(tmp_path):
    torch.save({"state_dict": {"a": torch.ones(1)}}, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"engine\.teacher=.*weights\.pth"):
        fit(module(teacher=str(tmp_path / "weights.pth")))
