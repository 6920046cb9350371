"""`reidlit visualize`."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import reidlit as package
from helpers.cli_settings import TINY
from reidlit.config import option
from reidlit.spec import build
from reidlit.visualize.ranked_list import HEIGHT

pytestmark = pytest.mark.slow

DATA = ["data=synthetic", *TINY]


@pytest.fixture
def checkpoint(trained):
    return f"ckpt_path={trained / 'checkpoints' / 'last.ckpt'}"


@pytest.fixture
def vit(tmp_path):
    """Save random weights of a small vision transformer; return the settings that load them."""
    torch.manual_seed(0)
    model = package.build_model("timm/test_vit", 3, image_size=(64, 32))
    torch.save(model.state_dict(), tmp_path / "vit.pth")
    return ["weights=vit.pth", "model=timm", "model.backbone.name=test_vit", "image_size=[64,32]"]


def picture(path):
    with Image.open(path) as sheet:
        return np.array(sheet)


def test_dataset_is_drawn(checkpoint, reidlit, tmp_path):
    done = reidlit("visualize", checkpoint, *DATA, "count=5", "hydra.run.dir=run")
    assert done.status == 0, done.err
    assert all(text in done.out for text in ("backbone", "5 of 12 images", f"{tmp_path}/run/visualize.png"))
    sheet = picture(tmp_path / "run" / "visualize.png")
    assert sheet.shape[0] > 2 * HEIGHT
    runs = {"same": [], "seed": ["seed=2"], "layer": ["layer=backbone.conv3"], "split": ["split=gallery"]}
    for name, changed in runs.items():
        done = reidlit("visualize", checkpoint, *DATA, "count=5", *changed, f"hydra.run.dir={name}")
        assert done.status == 0, done.err
        assert np.array_equal(picture(tmp_path / name / "visualize.png"), sheet) == (name == "same")


def test_folder_and_single_image_are_drawn(checkpoint, reidlit, tmp_path, drawn):
    source = next(drawn.glob("synthetic/*"))
    files = sorted(source.glob("*.jpg"))[:3]
    (tmp_path / "my images" / "deep").mkdir(parents=True)
    for file in files:
        shutil.copy(file, tmp_path / "my images" / "deep" / f"{file.stem} it's.jpg")
    done = reidlit("visualize", checkpoint, "images='my images'", "hydra.run.dir=folder")
    assert done.status == 0, done.err
    assert "3 of 3 images" in done.out
    assert (tmp_path / "folder" / "visualize.png").is_file()
    done = reidlit("visualize", checkpoint, f"images={files[0]}", "hydra.run.dir=image")
    assert done.status == 0, done.err
    assert "1 of 1 images" in done.out


def test_transformer_draws_attention_or_activation(vit, reidlit, tmp_path):
    for method, expected in (("auto", "attention"), ("activation", "backbone.network")):
        done = reidlit("visualize", *vit, *DATA, "count=4", f"method={method}", f"hydra.run.dir={method}")
        assert done.status == 0, done.err
        assert expected in done.out
    assert not np.array_equal(*(picture(tmp_path / name / "visualize.png") for name in ("auto", "activation")))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["images=."], "ckpt_path="),
        (["ckpt_path=CKPT"], "images="),
        (["ckpt_path=CKPT", "images=.", "data=synthetic"], "images="),
        (["ckpt_path=CKPT", "images=nowhere"], "images=nowhere"),
        (["ckpt_path=CKPT", "images=[a,b]"], "images=['a', 'b']"),
        (["ckpt_path=CKPT", "images=empty"], "images=empty"),
        (["ckpt_path=CKPT", "images=text.jpg"], "text.jpg"),
        (["ckpt_path=nowhere.ckpt", "images=."], "ckpt_path=nowhere.ckpt"),
        (["ckpt_path=CKPT", "data=synthetic", "split=probe"], "split=probe"),
        (["ckpt_path=CKPT", "images=.", "count=0"], "count=0"),
        (["ckpt_path=CKPT", "images=.", "seed=-1"], "seed=-1"),
        (["ckpt_path=CKPT", "images=.", "image_size=[64]"], "image_size=[64]"),
        (["ckpt_path=CKPT", "images=.", "method=cam"], "method=cam"),
        (["ckpt_path=CKPT", "images=text.jpg", "method=attention"], "text.jpg"),
        (["ckpt_path=CKPT", "images=IMAGE", "method=attention"], "method=activation"),
        (["ckpt_path=CKPT", "images=.", "method=attention", "layer=a"], "layer=a"),
        (["ckpt_path=CKPT", "images=IMAGE", "layer=conv4"], "backbone.conv4"),
        (["weights=some.pth", "images=."], "model="),
    ],
)
def test_invalid_arguments_are_named(arguments, expected, reidlit, trained, tmp_path, drawn):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.jpg").write_text("no image")
    image = next(drawn.glob("synthetic/*/*.jpg"))
    arguments = [
        item.replace("CKPT", str(trained / "checkpoints" / "last.ckpt")).replace("IMAGE", str(image))
        for item in arguments
    ]
    done = reidlit("visualize", *arguments, "hydra.run.dir=run")
    assert done.status == 1
    assert expected in done.err


def test_camera_aware_model_needs_camera_labels(reidlit, tmp_path):
    options = ["model=vit_reid", "model.backbone.name=test_vit", "model.backbone.num_cameras=2", "image_size=[64,32]"]
    spec = option("model", "vit_reid")
    spec["backbone"] |= {"name": "test_vit", "num_cameras": 2}
    torch.manual_seed(0)
    torch.save(build(spec | {"image_size": [64, 32]}, num_classes=3).state_dict(), tmp_path / "vit.pth")
    done = reidlit("visualize", "weights=vit.pth", *options, "images=.", "hydra.run.dir=run")
    assert done.status == 1
    assert "images=." in done.err
    done = reidlit("visualize", "weights=vit.pth", *options, *DATA, "hydra.run.dir=run")
    assert done.status == 0, done.err
    assert "attention" in done.out
