import os

import pytest

from reidlit.yaml_files import MAX_BYTES, load_config, read_bounded


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
