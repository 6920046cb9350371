"""Knowledge distillation: its losses against loops, a teacher that stays as it is, a student that needs it no more."""

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
    """The checkpoint of another network, for larger images."""
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


def fit(trained, **options):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(accelerator="cpu", max_epochs=1, enable_model_summary=False, **quiet, **options)
    trainer.fit(trained, DataLoader([batch(step) for step in range(3)], batch_size=None))
    return trainer


def test_soft_targets_are_hintons():
    torch.manual_seed(0)
    own, target = [torch.randn(6, 5, requires_grad=True) for _ in range(2)], [torch.randn(6, 5) for _ in range(3)]
    probability = sum((each / 4).softmax(1) for each in target) / 3
    expected = sum(16 * (probability * (probability / (each / 4).softmax(1)).log()).sum() / 6 for each in own) / 2
    found = SoftTargets(4.0)(own, target)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, own[0])[0], torch.autograd.grad(expected, own[0])[0])
    assert SoftTargets(4.0)([own[0]], [own[0]]).item() == pytest.approx(0, abs=1e-6)


def huber(x):
    return 0.5 * x * x if abs(x) <= 1 else abs(x) - 0.5


@pytest.mark.parametrize("images", [[0, 1, 2, 3, 4], [0, 0, 1, 2, 3]])
def test_relations_are_those_of_a_loop(images):
    """Also where the student, unlike the teacher, sees two images alike; an angle there counts as a right one."""
    torch.manual_seed(0)
    own, target = torch.randn(5, 8, dtype=torch.float64)[images], 9 * torch.randn(5, 3, dtype=torch.float64).exp()

    def distances(x):
        each = [(x[i] - x[j]).norm().item() for i, j in combinations(range(5), 2)]
        return [value / (sum(each) / len(each)) for value in each]

    def angles(x):
        return [
            torch.cosine_similarity(x[i] - x[j], x[k] - x[j], dim=0).item() for i, j, k in permutations(range(5), 3)
        ]

    for loss, relation in ((RelationalDistance(), distances), (RelationalAngle(), angles)):
        each = [huber(a - b) for a, b in zip(relation(own), relation(target), strict=True)]
        assert loss(own, target).item() == pytest.approx(sum(each) / len(each), rel=1e-5)
        assert loss(own, 7 * own + 3).item() == pytest.approx(0, abs=1e-6)
        with torch.autocast("cpu", torch.bfloat16):
            half = loss(own.float(), target.float())
        assert half.item() == pytest.approx(sum(each) / len(each), rel=1e-4)


@pytest.mark.parametrize("loss", [RelationalDistance(), RelationalAngle()])
def test_relations_of_coinciding_or_too_few_images_have_a_finite_gradient(loss):
    for own in (torch.randn(4, 8)[[0, 0, 1, 2]], torch.ones(4, 8), torch.randn(1, 8), torch.randn(2, 8)):
        own.requires_grad_(True)
        value = loss(own, torch.randn(len(own), 3))
        value.backward()
        assert value.isfinite()
        assert own.grad.abs().max() < 10


def test_teacher_gives_what_it_gave_alone_to_images_of_its_size(teacher):
    answer = Teacher(str(teacher), torch.device("cpu"))
    whole = ReIDModule.load_from_checkpoint(teacher).eval().model
    own = torch.randint(0, 256, (2, 3, 96, 48), dtype=torch.uint8)
    with torch.no_grad():
        expected = whole(own)
        torch.testing.assert_close(answer({"image": own, "camid": None}).logits, expected.logits)
        # Flat colours stay what they are when they are resized.
        flat = torch.randint(0, 256, (2, 3, 1, 1), dtype=torch.uint8)
        large, small = flat.expand(2, 3, 96, 48), flat.expand(2, 3, 64, 32)
        found = answer({"image": small, "camid": None}).embedding
        torch.testing.assert_close(found, whole(large).embedding, rtol=1e-4, atol=1e-4)


def test_student_learns_and_the_teacher_stays_as_it_is(teacher, tmp_path):
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
        for kind in (ReIDModule, DistillationModule):
            again = kind.load_from_checkpoint(tmp_path / "student.ckpt").eval()
            torch.testing.assert_close(again(image), expected)


def test_the_terms_are_those_of_the_outputs(teacher):
    student = module(teacher=str(teacher), weights={"soft_targets": 0.5, "relational_angle": 2.0})
    student.teacher = Teacher(str(teacher), torch.device("cpu"))
    student._trainer = type("Trainer", (), {"current_epoch": 0})
    given = batch()
    output, answer = student.model(given["image"]), student.teacher(given)
    total, each = student.losses_of(output, given, student.loss)
    soft = SoftTargets(4.0)(output.logits, answer.logits)
    angle = RelationalAngle()(output.embedding, answer.embedding)
    torch.testing.assert_close(each["distillation"], 0.5 * soft + 2 * angle)
    torch.testing.assert_close(total, student.loss(output, given["pid"])[0] + each["distillation"])
    assert "relational_distance" not in each


def test_a_teacher_of_other_identities_gives_relations_only(teacher):
    with pytest.raises(ValueError, match=r"other identities \(3, here 4\).*soft_targets=0"):
        fit(module(pids=[1, 2, 3, 4], teacher=str(teacher)))
    logged = fit(module(pids=[1, 2, 3, 4], teacher=str(teacher), weights={"relational_distance": 1})).callback_metrics
    assert logged["train/distillation"] > 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"teacher": None}, r"engine\.teacher=null"),
        ({"teacher": "nowhere.ckpt"}, r"engine\.teacher=nowhere\.ckpt does not exist"),
        ({"weights": {"hints": 1}}, r"engine\.weights names \['hints'\]"),
        ({"weights": {"soft_targets": 0}}, "one of them positive"),
        ({"weights": {"soft_targets": 1, "relational_angle": -1}}, "0 or more"),
        ({"temperature": -2}, "temperature=-2"),
    ],
)
def test_mistakes_are_named(changes, words):
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        fit(module(**changes))


def test_a_weight_file_is_no_teacher(tmp_path):
    torch.save({"state_dict": {"a": torch.ones(1)}}, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="is no checkpoint of reidlit train"):
        fit(module(teacher=str(tmp_path / "weights.pth")))
