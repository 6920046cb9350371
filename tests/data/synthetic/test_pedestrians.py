import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from reidlit.data.synthetic.walkers import Walkers, draw_identity

from reidlit.data.synthetic import walkers as module
from reidlit.data.synthetic.drawing import Person, Place, Pose, draw_person


@pytest.fixture(scope="module")
def walkers() -> Walkers:
    return Walkers(num_identities=24, num_cameras=6, shots=2)


def alone(person: Person, yaw: float = 0.0, phase: float = 0.5) -> np.ndarray:
    """A person on plain grey, without camera and occluder."""
    canvas = np.full((256, 128, 3), 128, dtype=np.uint8)
    draw_person(canvas, person, Pose(yaw, phase, stride=0.3, elbow=0.3), Place(64, 246, 236))
    return canvas


def grid(pictures: np.ndarray) -> np.ndarray:
    """Mean colours of 8 x 4 cells, one row a picture."""
    cells = [cv2.resize(picture, (4, 8), interpolation=cv2.INTER_AREA).ravel() for picture in pictures]
    return np.stack(cells).astype(np.float32)


def test_a_picture_depends_on_its_key_only(walkers: Walkers) -> None:
    keys = list(walkers.keys(range(4)))
    there = {key: walkers.draw(*key) for key in keys}
    others = Walkers(num_identities=5, num_cameras=8, shots=7)
    for key in reversed(keys):
        np.testing.assert_array_equal(others.draw(*key), there[key])


def test_every_key_gives_another_picture(walkers: Walkers) -> None:
    pictures = {walkers.draw(*key).tobytes() for key in walkers.keys(range(6))}
    assert len(pictures) == 6 * walkers.num_cameras * walkers.shots


def test_another_seed_is_another_world(walkers: Walkers) -> None:
    other = Walkers(seed=1)
    assert other.person(0) != walkers.person(0)
    assert not np.array_equal(other.draw(0, 0, 0), walkers.draw(0, 0, 0))


@pytest.mark.parametrize(("height", "width"), [(128, 64), (256, 128), (32, 16), (60, 90), (97, 33)])
def test_size_and_type(height: int, width: int) -> None:
    walkers = Walkers(num_identities=3, num_cameras=2, shots=3, height=height, width=width)
    for pid, camid, shot in walkers.keys(range(3)):
        picture = walkers.draw(pid, camid, shot)
        assert picture.shape == (height, width, 3)
        assert picture.dtype == np.uint8
        assert picture.std() > 5


def test_keys_are_sorted_and_complete() -> None:
    keys = list(Walkers(num_identities=3, num_cameras=2, shots=4).keys())
    assert keys == sorted(set(keys))
    assert len(keys) == 3 * 2 * 4
    assert {key.pid for key in Walkers(num_identities=9).keys([7, 2])} == {2, 7}


def test_a_person_is_recognised_by_its_clothes_where_nothing_disturbs() -> None:
    people = [draw_identity(0, pid) for pid in range(32)]
    seen = grid(np.stack([alone(person, yaw=0.0, phase=0.4) for person in people]))
    again = grid(np.stack([alone(person, yaw=0.4, phase=3.0) for person in people]))
    nearest = np.linalg.norm(again[:, None] - seen[None], axis=2).argmin(axis=1)
    assert (nearest == np.arange(32)).mean() > 0.85


def test_many_identities_share_the_colour_of_their_clothes() -> None:
    people = [draw_identity(0, pid) for pid in range(96)]
    worn = np.array([(*person.upper_colour, *person.lower_colour) for person in people])
    distance = np.abs(worn[:, None] - worn[None]).max(axis=2) + 255 * np.eye(96, dtype=int)
    assert (distance.min(axis=1) <= 20).mean() > 0.4


def test_colours_alone_do_not_tell_people_apart_across_cameras(walkers: Walkers) -> None:
    keys = np.array(list(walkers.keys()))
    features = grid(np.stack([walkers.draw(*key) for key in keys.tolist()]))
    distance = np.linalg.norm(features[:, None] - features[None], axis=2)
    junk = (keys[:, None, 0] == keys[None, :, 0]) & (keys[:, None, 1] == keys[None, :, 1])
    nearest = np.where(junk, np.inf, distance).argmin(axis=1)
    assert (keys[nearest, 0] == keys[:, 0]).mean() < 0.3
    assert (keys[nearest, 1] == keys[:, 1]).mean() > 0.6  # it is the camera that they tell


def test_the_back_hides_the_face() -> None:
    for pid in range(40):
        person = draw_identity(0, pid)
        if person.hair_style == "bald" or np.abs(np.subtract(person.skin, person.hair)).max() < 40:
            continue
        face, back = (int((alone(person, yaw)[:60] == person.skin).all(axis=2).sum()) for yaw in (0.0, math.pi))
        assert face > 100
        assert back < face / 4


def test_a_side_view_is_narrower() -> None:
    person = draw_identity(0, 0)
    front, side = ((alone(person, yaw)[60:110] != 128).any(axis=2).sum() for yaw in (0.0, math.pi / 2))
    assert side < front


def test_write_names_its_files_and_keeps_the_pictures(tmp_path: Path) -> None:
    walkers = Walkers(num_identities=2, num_cameras=2, shots=2)
    files = walkers.write(tmp_path / "new" / "folder", walkers.keys())
    names = [file.name for file in files]
    assert names == sorted(names)
    assert names[0] == "0000_c1_00.jpg"
    assert names[-1] == "0001_c2_01.jpg"
    for key, file in zip(walkers.keys(), files, strict=True):
        picture = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
        assert np.abs(picture.astype(int) - walkers.draw(*key)).mean() < 8  # and not with red and blue exchanged


def test_a_second_write_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    walkers = Walkers(num_identities=2, num_cameras=2, shots=1)
    files = walkers.write(tmp_path, walkers.keys())
    files[1].unlink()
    times = [file.stat().st_mtime_ns for file in files if file.exists()]
    drawn = []
    draw = Walkers.draw
    monkeypatch.setattr(Walkers, "draw", lambda self, *key: drawn.append(key) or draw(self, *key))
    assert walkers.write(tmp_path, walkers.keys()) == files
    assert drawn == [(0, 1, 0)]
    assert [file.stat().st_mtime_ns for file in files if file != files[1]] == times


def test_a_killed_write_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    walkers = Walkers(num_identities=1, num_cameras=2, shots=1)
    walkers.write(tmp_path, [])
    before = sorted(tmp_path.iterdir())

    def stop(self: Path, data: bytes) -> int:
        with self.open("wb") as stream:
            stream.write(data[:10])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", stop)
        with pytest.raises(KeyboardInterrupt):
            walkers.write(tmp_path, walkers.keys())
    assert sorted(tmp_path.iterdir()) == before
    assert all(file.exists() for file in walkers.write(tmp_path, walkers.keys()))


def test_write_refuses_a_folder_of_other_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Walkers(num_identities=1, num_cameras=2).write(tmp_path, [(0, 0, 0)])
    Walkers(num_identities=9, num_cameras=4).write(tmp_path, [(8, 3, 0)])  # the same world, more of it
    with pytest.raises(ValueError, match=r"seed.*delete it or name another"):
        Walkers(seed=3).write(tmp_path, [(0, 0, 0)])
    monkeypatch.setattr(module, "VERSION", module.VERSION + 1)
    with pytest.raises(ValueError, match="version"):
        Walkers().write(tmp_path, [(0, 0, 0)])


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_identities", 0), ("num_cameras", 1), ("shots", 0), ("height", 31), ("width", 15), ("seed", -1)],
)
def test_arguments_are_checked(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=rf"{name} must be at least \d+, got {value}"):
        Walkers(**{name: value})


@pytest.mark.parametrize(("key", "name"), [((24, 0, 0), "pid"), ((0, 6, 0), "camid"), ((0, 0, -1), "shot")])
def test_keys_are_checked(walkers: Walkers, key: tuple[int, int, int], name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be between 0 and"):
        walkers.draw(*key)
