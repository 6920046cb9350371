"""`data=multi`: several sources and targets on the command line."""

import json
import re

import pytest

from helpers.cli_settings import TINY

SIZES = "num_identities:12,num_test:6,num_cameras:2,shots:3,image_height:64,image_width:32"
SOURCE = f"{{synthetic:{{{SIZES}}}}}"
OTHER_SOURCE = f"{{synthetic:{{{SIZES},drawing_seed:1,name:elsewhere}}}}"
RUN = [*TINY[6:], "data=multi", "data.batch_size=12", "trainer.max_epochs=1", "callbacks.progress=null"]


@pytest.fixture
def run(reidlit, tmp_path):
    def run(*arguments):
        done = reidlit("train", *RUN, f"hydra.run.dir={tmp_path}/run", *arguments)
        assert done.status == 0, done.err
        return done.out, json.loads((tmp_path / "run" / "metrics.json").read_text())

    return run


@pytest.mark.slow
def test_two_sources_train_and_each_target_is_tested(run):
    printed, metrics = run(f"data.sources=[{SOURCE},{OTHER_SOURCE}]")
    assert re.search(r"synthetic: .*6 identities, 36 images, 2 cameras", printed)
    assert "12 identities, 72 images, 4 cameras" in printed
    assert "test/elsewhere" in printed
    assert {"test/synthetic/mAP", "test/elsewhere/mAP"} <= set(metrics)


def test_target_may_differ_from_sources(run):
    printed, metrics = run(f"data.sources=[{SOURCE}]", f"data.targets=[{OTHER_SOURCE}]")
    assert printed.count("identities") == 1
    assert [name for name in metrics if name.endswith("/mAP")] == ["test/elsewhere/mAP"]


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ("[nowhere]", "'nowhere'"),
        ("[{synthetic:{sizes:3}}]", "data=synthetic has no option ['sizes']"),
        ("[synthetic,synthetic]", "data.sources="),
        ("[]", "data.sources="),
        ("[{a:{},b:{}}]", "data.sources"),
    ],
)
def test_invalid_sources_are_named(reidlit, sources, expected):
    done = reidlit("train", *RUN, f"data.sources={sources}")
    assert done.status == 1
    assert expected in done.err
