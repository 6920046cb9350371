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
    """Weights of a small transformer."""
    torch.manual_seed(0)
    model = package.build_model("timm/test_vit", 3, image_size=(64, 32))
    torch.save(model.state_dict(), tmp_path / "vit.pth")
    return ["weights=vit.pth", "model=timm", "model.backbone.name=test_vit", "image_size=[64,32]"]


def picture(path):
    with Image.open(path) as sheet:
        return np.array(sheet)


def test_a_dataset(checkpoint, reidlit, tmp_path):
    done = reidlit("visualize", checkpoint, *DATA, "count=5", "hydra.run.dir=run")
    assert done.status == 0, done.err
    assert f"activation of backbone, 5 of 12 images: {tmp_path}/run/visualize.png" in done.out
    sheet = picture(tmp_path / "run" / "visualize.png")
    assert sheet.shape[0] > 2 * HEIGHT
    runs = {"same": [], "seed": ["seed=2"], "layer": ["layer=backbone.conv3"], "split": ["split=gallery"]}
    for name, changed in runs.items():
        done = reidlit("visualize", checkpoint, *DATA, "count=5", *changed, f"hydra.run.dir={name}")
        assert done.status == 0, done.err
        assert np.array_equal(picture(tmp_path / name / "visualize.png"), sheet) == (name == "same")


def test_a_folder_and_an_image(checkpoint, reidlit, tmp_path, drawn):
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


def test_a_transformer(vit, reidlit, tmp_path):
    for method, words in (("auto", "attention roll-out, 4 of"), ("activation", "activation of backbone.network")):
        done = reidlit("visualize", *vit, *DATA, "count=4", f"method={method}", f"hydra.run.dir={method}")
        assert done.status == 0, done.err
        assert words in done.out
    assert not np.array_equal(*(picture(tmp_path / name / "visualize.png") for name in ("auto", "activation")))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["images=."], "give ckpt_path=<file.ckpt>"),
        (["ckpt_path=CKPT"], "give data=<dataset> or images=<image or folder>"),
        (["ckpt_path=CKPT", "images=.", "data=synthetic"], "give data=<dataset> or images=<image or folder>"),
        (["ckpt_path=CKPT", "images=nowhere"], "images=nowhere does not exist"),
        (["ckpt_path=CKPT", "images=[a,b]"], "must be one image, or one folder"),
        (["ckpt_path=CKPT", "images=empty"], "images=empty contains no image"),
        (["ckpt_path=CKPT", "images=text.jpg"], "Cannot read 'text.jpg' as an image"),
        (["ckpt_path=nowhere.ckpt", "images=."], "ckpt_path=nowhere.ckpt does not exist"),
        (["ckpt_path=CKPT", "data=synthetic", "split=probe"], "split=probe: data=synthetic has no"),
        (["ckpt_path=CKPT", "images=.", "count=0"], "count=0 must be an integer from 1 to 400"),
        (["ckpt_path=CKPT", "images=.", "seed=-1"], "seed=-1 must be"),
        (["ckpt_path=CKPT", "images=.", "image_size=[64]"], "image_size=[64] must be [height, width]"),
        (["ckpt_path=CKPT", "images=.", "method=cam"], "method=cam must be one of auto, activation, attention"),
        (["ckpt_path=CKPT", "images=text.jpg", "method=attention"], "Cannot read"),
        (["ckpt_path=CKPT", "images=IMAGE", "method=attention"], "Use method=activation"),
        (["ckpt_path=CKPT", "images=.", "method=attention", "layer=a"], "layer=a is for method=activation"),
        (["ckpt_path=CKPT", "images=IMAGE", "layer=conv4"], "Similar: backbone.conv4"),
        (["weights=some.pth", "images=."], "name it with model="),
    ],
)
def test_mistakes_are_named(arguments, words, reidlit, trained, tmp_path, drawn):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.jpg").write_text("no image")
    image = next(drawn.glob("synthetic/*/*.jpg"))
    given = [
        item.replace("CKPT", str(trained / "checkpoints" / "last.ckpt")).replace("IMAGE", str(image))
        for item in arguments
    ]
    done = reidlit("visualize", *given, "hydra.run.dir=run")
    assert done.status == 1
    assert words in done.err


def test_a_model_with_cameras_needs_them(reidlit, tmp_path):
    options = ["model=vit_reid", "model.backbone.name=test_vit", "model.backbone.num_cameras=2", "image_size=[64,32]"]
    spec = option("model", "vit_reid")
    spec["backbone"] |= {"name": "test_vit", "num_cameras": 2}
    torch.manual_seed(0)
    torch.save(build(spec | {"image_size": [64, 32]}, num_classes=3).state_dict(), tmp_path / "vit.pth")
    done = reidlit("visualize", "weights=vit.pth", *options, "images=.", "hydra.run.dir=run")
    assert done.status == 1
    assert "images=.: this model must be told which camera took each image" in done.err
    done = reidlit("visualize", "weights=vit.pth", *options, *DATA, "hydra.run.dir=run")
    assert done.status == 0, done.err
    assert "attention roll-out" in done.out
