"""The `Example:` of every public class and function runs and prints what it shows."""

import doctest
from importlib import import_module

import numpy as np
import pytest
import torch
from PIL import Image

import reidlit

MODULES = (
    "reidlit.losses",
    "reidlit.losses.attribute_bce",
    "reidlit.losses.distillation",
    "reidlit.metrics",
    "reidlit.metrics.attribute_metric",
    "reidlit.data.samplers",
)


def public_objects():
    for name in reidlit.__all__:
        if not name.startswith("__"):
            yield pytest.param(getattr(reidlit, name), id=f"reidlit.{name}")
    for module_name in MODULES:
        module = import_module(module_name)
        local = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module_name]
        for name in getattr(module, "__all__", [name for name in local if not name.startswith("_")]):
            if not hasattr(reidlit, name):
                yield pytest.param(getattr(module, name), id=f"{module_name}.{name}")


@pytest.fixture(scope="module")
def example_folder(tmp_path_factory, trained):
    """A folder with the files that examples name: `a.jpg`, `b.jpg`, `crops/` and `last.ckpt`."""
    folder = tmp_path_factory.mktemp("examples")
    rng = np.random.default_rng(0)
    for name in ("a.jpg", "b.jpg", "crops/c.jpg", "crops/d.jpg"):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (64, 32, 3), dtype=np.uint8)).save(folder / name)
    (folder / "last.ckpt").symlink_to(trained / "checkpoints" / "last.ckpt")
    return folder


@pytest.mark.parametrize("item", [*public_objects()])
def test_example_runs(item, example_folder, monkeypatch):
    monkeypatch.chdir(example_folder)
    torch.manual_seed(0)
    examples = [test for test in doctest.DocTestFinder(recurse=False).find(item, globs={}) if test.examples]
    assert examples, "its docstring has no Example: section with >>> lines"
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    report: list[str] = []
    for example in examples:
        runner.run(example, out=report.append)
    assert runner.failures == 0, "".join(report)
