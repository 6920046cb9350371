"""Images of synthetic pedestrians: reproducible, varied, and written atomically."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from helpers.pictures import grid
from reidlit.data.synthetic import pedestrians as module
from reidlit.data.synthetic.pedestrians import Pedestrians


@pytest.fixture(scope="module")
def pedestrians() -> Pedestrians:
    return Pedestrians(num_identities=24, num_cameras=6, shots=2)


def test_image_depends_only_on_its_key(pedestrians: Pedestrians) -> None:
    keys = list(pedestrians.keys(range(4)))
    expected = {key: pedestrians.draw(*key) for key in keys}
    other = Pedestrians(num_identities=5, num_cameras=8, shots=7)
    for key in reversed(keys):
        np.testing.assert_array_equal(other.draw(*key), expected[key])


def test_images_of_different_keys_differ(pedestrians: Pedestrians) -> None:
    images = {pedestrians.draw(*key).tobytes() for key in pedestrians.keys(range(6))}
    assert len(images) == 6 * pedestrians.num_cameras * pedestrians.shots


def test_seed_changes_people_and_images(pedestrians: Pedestrians) -> None:
    other = Pedestrians(seed=1)
    assert other.person(0) != pedestrians.person(0)
    assert not np.array_equal(other.draw(0, 0, 0), pedestrians.draw(0, 0, 0))


@pytest.mark.parametrize(("height", "width"), [(128, 64), (256, 128), (32, 16), (60, 90), (97, 33)])
def test_images_have_requested_size_and_type(height: int, width: int) -> None:
    pedestrians = Pedestrians(num_identities=3, num_cameras=2, shots=3, height=height, width=width)
    for pid, camid, shot in pedestrians.keys(range(3)):
        image = pedestrians.draw(pid, camid, shot)
        assert image.shape == (height, width, 3)
        assert image.dtype == np.uint8
        assert image.std() > 5


def test_keys_are_sorted_and_complete() -> None:
    keys = list(Pedestrians(num_identities=3, num_cameras=2, shots=4).keys())
    assert keys == sorted(set(keys))
    assert len(keys) == 3 * 2 * 4
    assert {key.pid for key in Pedestrians(num_identities=9).keys([7, 2])} == {2, 7}


def test_colors_alone_do_not_identify_people_across_cameras(pedestrians: Pedestrians) -> None:
    keys = np.array(list(pedestrians.keys()))
    features = grid(np.stack([pedestrians.draw(*key) for key in keys.tolist()]))
    distance = np.linalg.norm(features[:, None] - features[None], axis=2)
    junk = (keys[:, None, 0] == keys[None, :, 0]) & (keys[:, None, 1] == keys[None, :, 1])
    nearest = np.where(junk, np.inf, distance).argmin(axis=1)
    assert (keys[nearest, 0] == keys[:, 0]).mean() < 0.3
    assert (keys[nearest, 1] == keys[:, 1]).mean() > 0.6  # colors identify the camera


def test_write_creates_files_with_the_rendered_images(tmp_path: Path) -> None:
    pedestrians = Pedestrians(num_identities=2, num_cameras=2, shots=2)
    files = pedestrians.write(tmp_path / "new" / "folder", pedestrians.keys())
    names = [file.name for file in files]
    assert names == sorted(names)
    assert names[0] == "0000_c1_00.jpg"
    assert names[-1] == "0001_c2_01.jpg"
    for key, file in zip(pedestrians.keys(), files, strict=True):
        image = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
        assert np.abs(image.astype(int) - pedestrians.draw(*key)).mean() < 8  # fails if red and blue are swapped


def test_second_write_renders_only_missing_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pedestrians = Pedestrians(num_identities=2, num_cameras=2, shots=1)
    files = pedestrians.write(tmp_path, pedestrians.keys())
    files[1].unlink()
    times = [file.stat().st_mtime_ns for file in files if file.exists()]
    drawn = []
    draw = Pedestrians.draw
    monkeypatch.setattr(Pedestrians, "draw", lambda self, *key: drawn.append(key) or draw(self, *key))
    assert pedestrians.write(tmp_path, pedestrians.keys()) == files
    assert drawn == [(0, 1, 0)]
    assert [file.stat().st_mtime_ns for file in files if file != files[1]] == times


def test_killed_write_leaves_no_partial_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pedestrians = Pedestrians(num_identities=1, num_cameras=2, shots=1)
    pedestrians.write(tmp_path, [])
    before = sorted(tmp_path.iterdir())

    def stop(self: Path, data: bytes) -> int:
        with self.open("wb") as stream:
            stream.write(data[:10])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", stop)
        with pytest.raises(KeyboardInterrupt):
            pedestrians.write(tmp_path, pedestrians.keys())
    assert sorted(tmp_path.iterdir()) == before
    assert all(file.exists() for file in pedestrians.write(tmp_path, pedestrians.keys()))


def test_write_to_folder_with_other_settings_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Pedestrians(num_identities=1, num_cameras=2).write(tmp_path, [(0, 0, 0)])
    Pedestrians(num_identities=9, num_cameras=4).write(tmp_path, [(8, 3, 0)])  # more identities with the same settings
    with pytest.raises(ValueError, match=r"'seed': 3"):
        Pedestrians(seed=3).write(tmp_path, [(0, 0, 0)])
    monkeypatch.setattr(module, "VERSION", module.VERSION + 1)
    with pytest.raises(ValueError, match="version"):
        Pedestrians().write(tmp_path, [(0, 0, 0)])


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_identities", 0), ("num_cameras", 1), ("shots", 0), ("height", 31), ("width", 15), ("seed", -1)],
)
def test_argument_out_of_range_raises(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=rf"{name}.*{value}"):
        Pedestrians(**{name: value})


@pytest.mark.parametrize(("key", "name"), [((24, 0, 0), "pid"), ((0, 6, 0), "camid"), ((0, 0, -1), "shot")])
def test_key_out_of_range_raises(pedestrians: Pedestrians, key: tuple[int, int, int], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        pedestrians.draw(*key)
