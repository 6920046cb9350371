"""`reidlit extract`, and `reidlit test` on the stored features."""

import json
import shutil

import numpy as np
import pytest
from pyarrow import parquet

from helpers.cli_settings import TINY
from reidlit.inference.features import Features

QUIET = "callbacks.progress=null"


@pytest.fixture
def checkpoint(trained):
    return f"ckpt_path={trained / 'checkpoints' / 'last.ckpt'}"


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_stored_features_score_like_the_model(suffix, checkpoint, reidlit, tmp_path):
    data = ["data=synthetic", *TINY[:6]]
    done = reidlit("extract", checkpoint, *data, f"output={tmp_path}/kept/synthetic.{suffix}")
    assert done.status == 0, done.err
    printed = done.out.replace("\n", "")
    assert all(text in printed for text in ("36 embeddings", "512", f"{tmp_path}/kept/synthetic.{suffix}"))
    done = reidlit("test", f"features={tmp_path}/kept/synthetic.{suffix}", f"hydra.run.dir={tmp_path}/stored")
    assert done.status == 0, done.err
    assert reidlit("test", checkpoint, *TINY, QUIET, f"hydra.run.dir={tmp_path}/model").status == 0
    stored, model = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("stored", "model"))
    assert stored["test/synthetic/AUC"] == pytest.approx(model["test/synthetic/AUC"], abs=0.01)
    # A different batch size may round embeddings differently, which may swap two entries at almost equal distances.
    stored, model = (
        np.array(parquet.read_table(tmp_path / name / "per_query.parquet")["distance"].to_pylist())
        for name in ("stored", "model")
    )
    np.testing.assert_allclose(stored, model, rtol=1e-3, atol=1e-3 * model.max())


def test_extract_folder_of_images(checkpoint, reidlit, tmp_path, drawn):
    source = next(drawn.glob("synthetic/*"))
    shutil.copytree(source, tmp_path / "my images" / "deep")
    done = reidlit("extract", checkpoint, f"images='{tmp_path}/my images'", "hydra.run.dir=run")
    assert done.status == 0, done.err
    features = Features.load(tmp_path / "run" / "features.npz")
    assert len(features) == len(list(source.glob("*.jpg")))
    assert features.path[0].endswith("0000_c1_00.jpg")
    assert set(features.pid) == {-1}
    assert np.isfinite(features.embedding).all()
    assert "features=run/features.npz" in reidlit("test", "features=run/features.npz").err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["images=."], "ckpt_path="),
        (["ckpt_path=CKPT"], "images="),
        (["ckpt_path=CKPT", "images=nowhere"], "nowhere"),
        (["ckpt_path=CKPT", "images=."], "images=."),
        (["ckpt_path=CKPT", "data=synthetic", "splits=[probe]"], "['probe']"),
        (["weights=some.pth", "data=synthetic"], "model="),
    ],
)
def test_invalid_arguments_are_named(arguments, expected, reidlit, trained, tmp_path):
    arguments = [item.replace("CKPT", str(trained / "checkpoints" / "last.ckpt")) for item in arguments]
    (tmp_path / "empty").mkdir()
    done = reidlit("extract", *arguments, "hydra.run.dir=empty")
    assert done.status == 1
    assert expected in done.err
