"""`reidlit profile`: one model, several models, and the list of all models."""

import json

import pytest

from reidlit.commands.profile import papers
from reidlit.config import options


@pytest.fixture
def profile(reidlit, tmp_path):
    """Run the command; return its output and the content of profile.json."""

    def run(*arguments):
        result = reidlit("profile", *arguments, "hydra.run.dir=run", "device=cpu")
        assert result.status == 0, result.err
        return result.out, json.loads((tmp_path / "run" / "profile.json").read_text())

    return run


@pytest.mark.slow
def test_single_model_is_measured_and_timed(profile):
    printed, content = profile("model=osnet_x0_25", "image_size=[64,32]", "batch_size=4")
    row = content["models"]["osnet_x0_25"]
    assert row["image_size"] == [64, 32]
    assert row["latency_ms"] > 0
    assert row["images_per_second"] > 0
    assert content["device"].startswith("CPU")
    assert content["batch_size"] == 4
    for text in ("osnet_x0_25", "64x32", "512", "0.202", "run/profile.json"):
        assert text in printed, text


def test_pattern_selects_several_models(profile):
    printed, content = profile("model=osnet_x0_*", "image_size=[64,32]", "latency=false")
    assert list(content["models"]) == [name for name in options("model") if name.startswith("osnet_x0_")]
    assert all(name in printed for name in content["models"])
    assert "latency" not in printed
    assert content["models"]["osnet_x0_5"]["latency_ms"] is None


def test_default_image_size_depends_on_the_model(profile):
    row = profile("model=hacnn", "latency=false")[1]["models"]["hacnn"]
    assert row["image_size"] == [160, 64]


def test_timm_model(profile):
    row = profile("model=timm/vit_tiny_patch16_224", "image_size=[64,32]", "latency=false")[1]["models"]
    assert row["timm/vit_tiny_patch16_224"]["embedding_size"] == 192


def test_model_settings_apply(profile):
    arguments = ["model=osnet_x0_25", "model/pool=stripes", "model.pool.parts=4", "image_size=[64,32]"]
    assert profile(*arguments, "latency=false")[1]["models"]["osnet_x0_25"]["embedding_size"] == 4 * 512


def test_models_are_listed_with_their_papers(reidlit, tmp_path):
    result = reidlit("profile")
    assert result.status == 0, result.err
    assert not list(tmp_path.rglob("profile.json"))
    assert list(papers()) == options("model")
    for name, (description, paper) in papers().items():
        assert f" {name} " in result.out
        assert description, name
        assert paper, name


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["model=osnet_x9"], ["model=osnet_x9", "osnet_x1_0", "timm/<name>"]),
        (["model=osnet_y*"], ["osnet_y*", "osnet_x1_0"]),
        (["model=timm/osnet_x9"], ["osnet_x9"]),
        (["model=osnet_x0_25", "image_size=64"], ["image_size=64", "[height, width]"]),
        (["model=osnet_x0_25", "image_size=[3,2]"], ["model=osnet_x0_25", "image_size=[3, 2]"]),
        (["model=osnet_x0_25", "batch_size=0"], ["batch_size=0"]),
        (["model=osnet_x0_25", "device=gpu"], ["device='gpu'", "cpu, cuda"]),
    ],
    ids=lambda value: value[-1],
)
def test_invalid_arguments_are_named(arguments, expected, reidlit, tmp_path):
    result = reidlit("profile", *arguments, "latency=false", "hydra.run.dir=run")
    assert result.status == 1
    assert all(text in result.err for text in expected), result.err
    assert "Traceback" not in result.err
    assert not list(tmp_path.rglob("profile.json"))
