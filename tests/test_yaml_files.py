import os

import pytest
from omegaconf import OmegaConf

from reidlit.yaml_files import MAX_BYTES, load_config, read_bounded, without_interpolations


def test_values_and_interpolations_are_kept(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("a: 1e-3\nb: ${oc.env:HOME}\nc: &x [1, 2]\nd: *x\n")
    config = load_config(file)
    assert config.a == 1e-3
    assert config._get_node("b")._value() == "${oc.env:HOME}"
    assert config.d == [1, 2]


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))


@pytest.mark.parametrize(
    "content",
    [
        BOMB,
        "a: &a {b: *a}",
        "[" * 100_000,
        "!!python/object/apply:os.system [x]",
        "a: [1",
        b"\xff\xfe\x00",
        "x" * (MAX_BYTES + 1),
    ],
    ids=["alias bomb", "cycle", "nested", "object", "unclosed", "binary", "large"],
)
def test_hostile_file_is_refused_by_name(tmp_path, content):
    file = tmp_path / "config.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=r"config\.yaml"):
        load_config(file)


def test_special_and_missing_files_are_refused(tmp_path):
    os.mkfifo(tmp_path / "fifo.yaml")
    with pytest.raises(ValueError, match=r"fifo\.yaml"):
        read_bounded(tmp_path / "fifo.yaml")
    with pytest.raises(FileNotFoundError, match=r"none\.yaml"):
        read_bounded(tmp_path / "none.yaml")


def test_only_references_and_data_folders_are_resolved(monkeypatch):
    monkeypatch.setenv("SECRET", "password")
    monkeypatch.setenv("REIDLIT_DATA", "/data")
    settings = {
        "a": {"height": 256, "again": "${.height}", "up": "${..b.0}", "both": "${a.height} x ${b.1}"},
        "b": [1, "two"],
        "copy": "${a}",
        "root": "${oc.env:REIDLIT_DATA,data}",
        "packs": "${oc.env:REIDLIT_PACKS,packed}",
        "text": [
            "${oc.env:SECRET}",
            "${oc.env:${name}}",
            "${hydra:runtime.output_dir}",
            "${nowhere}",
            "${oc.env:HOME,x}",
        ],
        "name": "SECRET",
    }
    found = without_interpolations(OmegaConf.create(settings))
    assert found["a"] == {"height": 256, "again": 256, "up": 1, "both": "256 x two"} == found["copy"]
    assert (found["root"], found["packs"]) == ("/data", "packed")
    assert found["text"] == [settings["text"][0], "${oc.env:SECRET}", *settings["text"][2:]]
    assert "password" not in str(found)


@pytest.mark.parametrize(
    "content",
    [
        {"a": "${b}", "b": "${a}"},
        {"a": {"b": "${a}"}},
        {"a0": "x", **{f"a{n}": f"${{a{n - 1}}}${{a{n - 1}}}" for n in range(1, 60)}},
        {"a0": ["x"], **{f"a{n}": [f"${{a{n - 1}}}"] * 2 for n in range(1, 40)}},
    ],
)
def test_cyclic_and_expanding_references_are_refused(content):
    with pytest.raises(ValueError, match="cyclic or too large"):
        without_interpolations(OmegaConf.create(content))
