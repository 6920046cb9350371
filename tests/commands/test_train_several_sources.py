"""Several sources and targets from the command line."""

import json

import pytest

from helpers.cli_settings import TINY

SIZES = "num_identities:12,num_test:6,num_cameras:2,shots:3,image_height:64,image_width:32"
HERE = f"{{synthetic:{{{SIZES}}}}}"
THERE = f"{{synthetic:{{{SIZES},drawing_seed:1,name:elsewhere}}}}"
RUN = [*TINY[6:], "data=multi", "data.batch_size=12", "trainer.max_epochs=1", "callbacks.progress=null"]


@pytest.fixture
def run(reidlit, tmp_path):
    def run(*arguments):
        done = reidlit("train", *RUN, f"hydra.run.dir={tmp_path}/run", *arguments)
        assert done.status == 0, done.err
        return done.out, json.loads((tmp_path / "run" / "metrics.json").read_text())

    return run


@pytest.mark.slow
def test_two_sources_and_each_target_in_one_table(run):
    printed, metrics = run(f"data.sources=[{HERE},{THERE}]")
    assert "synthetic: trained on 6 identities, 36 images, 2 cameras" in printed
    assert "together: 12 identities, 72 images, 4 cameras" in printed
    assert "test/elsewhere" in printed
    assert {"test/synthetic/mAP", "test/elsewhere/mAP"} <= set(metrics)


def test_a_target_that_is_no_source(run):
    printed, metrics = run(f"data.sources=[{HERE}]", f"data.targets=[{THERE}]")
    assert "together" not in printed
    assert [name for name in metrics if name.endswith("/mAP")] == ["test/elsewhere/mAP"]


@pytest.mark.parametrize(
    ("sources", "words"),
    [
        ("[nowhere]", "names 'nowhere', which is no option of data"),
        ("[{synthetic:{sizes:3}}]", "data=synthetic has no option ['sizes']"),
        ("[synthetic,synthetic]", "names one twice"),
        ("[]", "names no dataset to train on"),
        ("[{a:{},b:{}}]", "one name with its options"),
    ],
)
def test_bad_sources(reidlit, sources, words):
    done = reidlit("train", *RUN, f"data.sources={sources}")
    assert done.status == 1
    assert words in done.err
