"""Training and evaluation on tracklets: pooled clips in `ReIDModule`, single frames in `FramesModule`."""

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


def module(module_class=FramesModule, loss=CE, **components):
    torch.manual_seed(0)
    spec = option("model", "osnet_x0_25") | FRAME_AVERAGE | components
    built = module_class(spec, [5, 6, 7], {"losses": {"only": loss}}, None, None, (64, 32))
    built.log = built.log_dict = lambda *_, **__: None
    built._trainer = SimpleNamespace(current_epoch=0)
    return built.eval()


def batch(length=3):
    generator = torch.Generator().manual_seed(0)
    pid = torch.tensor([0, 0, 1, 2])
    image = torch.randint(0, 256, (4, length, 3, 64, 32), dtype=torch.uint8, generator=generator)
    return {"image": image, "pid": pid, "camid": pid, "index": torch.arange(4)}


@pytest.mark.parametrize("frames_at_once", [1, 7, 512])
def test_tracklet_embedding_averages_frames(monkeypatch, frames_at_once):
    monkeypatch.setattr(tracklets, "FRAMES_AT_ONCE", frames_at_once)
    image = torch.randn(5, 3, 3, 4, 4)
    frames = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 1, 1], [1, 1, 1], [1, 0, 0]], dtype=torch.bool)
    tracklet = torch.tensor([0, 0, 1, 1, 1])

    def embed(image, camid, frames):
        vectors = torch.cat([image.mean((3, 4)), camid[:, None, None].expand(-1, 3, 1).float()], dim=2)
        return (vectors * frames[..., None]).sum(1) / frames.sum(1, keepdim=True)

    embedding = embed_tracklets(embed, image, frames, tracklet, torch.tensor([4, 9]))
    for number, camid in enumerate((4, 9)):
        real_frames = image.mean((3, 4))[tracklet == number][frames[tracklet == number]]
        assert torch.allclose(embedding[number, :3], real_frames.mean(0), atol=1e-6)  # all frames have equal weight
        assert embedding[number, 3] == camid


def test_loss_on_single_images_is_mean_over_frames():
    frames_module, clips = module(), batch()
    with torch.no_grad():
        logits = frames_module.model(clips["image"].flatten(0, 1)).logits
        expected = CrossEntropy()(SimpleNamespace(logits=logits), clips["pid"].repeat_interleave(3))
        assert torch.allclose(frames_module.training_step(clips, 0)["loss"], expected, atol=1e-5)


def test_frames_of_a_clip_are_never_compared(monkeypatch):
    """Each round compares one frame of every clip, and each frame is in one round."""
    calls = []
    monkeypatch.setattr(Triplet, "compare", lambda _, features, same: calls.append((features, same)) or features.sum())
    frames_module, clips = module(loss=TRIPLET), batch()
    frames_module.training_step(clips, 0)
    features = frames_module.model(clips["image"].flatten(0, 1)).features[0].detach()
    clip_of = {row.numpy().tobytes(): number // 3 for number, row in enumerate(features)}
    assert len(clip_of) == 12
    rounds = [[clip_of[row.numpy().tobytes()] for row in compared.detach()] for compared, _ in calls]
    assert rounds == [[0, 1, 2, 3]] * 3
    compared_frames = {row.numpy().tobytes() for compared, _ in calls for row in compared.detach()}
    assert len(compared_frames) == 12
    assert all(torch.equal(same, clips["pid"][:, None] == clips["pid"]) for _, same in calls)


def test_reid_module_computes_loss_of_pooled_clips():
    model = (clip_module := module(ReIDModule, temporal=option("model/temporal", "average"))).model
    clips = batch()
    with torch.no_grad():
        vectors = model.pool(model.backbone(model.normalize(clips["image"].flatten(0, 1))))[0]
        bottleneck = model.neck[0](vectors.view(4, 3, -1).mean(1)).bottleneck
        expected = CrossEntropy()(SimpleNamespace(logits=(model.classifier[0](bottleneck),)), clips["pid"])
        assert torch.allclose(clip_module.training_step(clips, 0)["loss"], expected, atol=1e-5)


@pytest.mark.parametrize("temporal", ["average", "attention"])
def test_temporal_pooling_before_the_neck_raises(temporal):
    with pytest.raises(ValueError, match="model/temporal=frame_average"):
        module(temporal=option("model/temporal", temporal))


def test_batch_of_images_raises():
    images = batch()
    images["image"] = images["image"][:, 0]
    with pytest.raises(ValueError, match=r"engine=frames.*engine=default"):
        module().training_step(images, 0)
