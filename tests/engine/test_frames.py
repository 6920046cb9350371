"""Tracklets in LightningModules: clips averaged, frames trained on, two frames of one clip never compared."""

from types import SimpleNamespace

import pytest
import torch

from reidlit.config import option
from reidlit.engine.frames import FramesModule
from reidlit.engine.reid import ReIDModule
from reidlit.losses import CrossEntropy, Triplet
from reidlit.models import tracklet_embedding as tracklets
from reidlit.models.tracklet_embedding import embed_tracklets

CE = {"_target_": "reidlit.losses.CrossEntropy"}
TRIPLET = {"_target_": "reidlit.losses.Triplet"}
FRAME_AVERAGE = {"temporal": option("model/temporal", "frame_average")}


def module(kind=FramesModule, losses=CE, **parts):
    torch.manual_seed(0)
    spec = option("model", "osnet_x0_25") | FRAME_AVERAGE | parts
    made = kind(spec, [5, 6, 7], {"losses": {"only": losses}}, None, None, (64, 32))
    made.log = made.log_dict = lambda *_, **__: None
    made._trainer = SimpleNamespace(current_epoch=0)
    return made.eval()


def batch(length=3):
    generator = torch.Generator().manual_seed(0)
    pid = torch.tensor([0, 0, 1, 2])
    image = torch.randint(0, 256, (4, length, 3, 64, 32), dtype=torch.uint8, generator=generator)
    return {"image": image, "pid": pid, "camid": pid, "index": torch.arange(4)}


@pytest.mark.parametrize("at_once", [1, 7, 512])
def test_clips_are_averaged_by_their_frames(monkeypatch, at_once):
    monkeypatch.setattr(tracklets, "FRAMES_AT_ONCE", at_once)
    image = torch.randn(5, 3, 3, 4, 4)
    frames = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 1, 1], [1, 1, 1], [1, 0, 0]], dtype=torch.bool)
    tracklet = torch.tensor([0, 0, 1, 1, 1])

    def embed(image, camid, frames):
        each = torch.cat([image.mean((3, 4)), camid[:, None, None].expand(-1, 3, 1).float()], dim=2)
        return (each * frames[..., None]).sum(1) / frames.sum(1, keepdim=True)

    found = embed_tracklets(embed, image, frames, tracklet, torch.tensor([4, 9]))
    for number, camid in enumerate((4, 9)):
        real = image.mean((3, 4))[tracklet == number][frames[tracklet == number]]
        assert torch.allclose(found[number, :3], real.mean(0), atol=1e-6)  # every frame counts once
        assert found[number, 3] == camid


def test_loss_of_single_images_is_the_mean_over_all_frames():
    trained, given = module(), batch()
    with torch.no_grad():
        logits = trained.model(given["image"].flatten(0, 1)).logits
        expected = CrossEntropy()(SimpleNamespace(logits=logits), given["pid"].repeat_interleave(3))
        assert torch.allclose(trained.training_step(given, 0)["loss"], expected, atol=1e-5)


def test_two_frames_of_a_clip_are_never_a_pair(monkeypatch):
    """A clip whose frames differ wildly is no harder than its frames alone: batch-hard would pair them up."""
    seen = []
    monkeypatch.setattr(Triplet, "compare", lambda _, features, same: seen.append((features, same)) or features.sum())
    trained, given = module(losses=TRIPLET), batch()
    trained.training_step(given, 0)
    features = trained.model(given["image"].flatten(0, 1)).features[0].detach()
    clip_of = {row.numpy().tobytes(): place // 3 for place, row in enumerate(features)}
    assert len(clip_of) == 12
    rounds = [[clip_of[row.numpy().tobytes()] for row in found.detach()] for found, _ in seen]
    assert rounds == [[0, 1, 2, 3]] * 3
    shown = {row.numpy().tobytes() for found, _ in seen for row in found.detach()}
    assert len(shown) == 12  # each frame once
    assert all(torch.equal(same, given["pid"][:, None] == given["pid"]) for _, same in seen)


def test_clips_by_default_give_the_loss_of_pooled_vectors():
    trained = module(ReIDModule, temporal=option("model/temporal", "average"))
    given = batch()
    with torch.no_grad():
        vectors = trained.model.pool(trained.model.backbone(trained.model.normalize(given["image"].flatten(0, 1))))[0]
        bottleneck = trained.model.neck[0](vectors.view(4, 3, -1).mean(1)).bottleneck
        expected = CrossEntropy()(SimpleNamespace(logits=(trained.model.classifier[0](bottleneck),)), given["pid"])
        assert torch.allclose(trained.training_step(given, 0)["loss"], expected, atol=1e-5)


@pytest.mark.parametrize("temporal", ["average", "attention"])
def test_frames_need_a_pooling_of_embeddings(temporal):
    with pytest.raises(ValueError, match="model/temporal=frame_average or frame_max"):
        module(temporal=option("model/temporal", temporal))


def test_frames_of_images_are_refused():
    given = batch()
    given["image"] = given["image"][:, 0]
    with pytest.raises(ValueError, match="engine=frames is for tracklets"):
        module().training_step(given, 0)
