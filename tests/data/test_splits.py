"""Held-out identities and random orders."""

import pytest

from reidlit.data.sample import Sample
from reidlit.data.splits import check_split_id, drawn_order, hold_out

SAMPLES = [Sample(f"{pid}_{cam}_{shot}.jpg", pid, cam) for pid in range(20) for cam in range(3) for shot in range(2)]


def test_held_out_identities_are_disjoint_and_queries_have_matches():
    train, (query, gallery) = hold_out(SAMPLES, 0.25, seed=0)
    assert len({s.pid for s in query}) == 5
    assert not {s.pid for s in train} & {s.pid for s in query + gallery}
    assert len(train) == 15 * 6
    assert len(query) == 15
    assert not set(query) & set(gallery)
    assert all(any(g.pid == q.pid and g.camid != q.camid for g in gallery) for q in query)


def test_hold_out_depends_on_seed():
    assert hold_out(SAMPLES, 0.25, seed=3) == hold_out(SAMPLES, 0.25, seed=3)
    assert hold_out(SAMPLES, 0.25, seed=3) != hold_out(SAMPLES, 0.25, seed=4)


def test_identity_with_one_camera_stays_in_training():
    one_camera = [Sample(f"x{shot}.jpg", 99, 0) for shot in range(4)]
    for seed in range(20):
        train, _ = hold_out(SAMPLES + one_camera, 0.5, seed)
        assert 99 in {s.pid for s in train}


def test_identities_with_single_images_have_matches():
    single = [Sample(f"{pid}_{cam}.jpg", pid, cam) for pid in range(10) for cam in range(2)]
    _, (query, gallery) = hold_out(single, 0.3, seed=0)
    assert all(any(g.pid == q.pid and g.camid != q.camid for g in gallery) for q in query)


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 0.001, 0.99])
def test_invalid_fraction_raises(fraction):
    with pytest.raises(ValueError, match=f"val_fraction={fraction}"):
        hold_out(SAMPLES, fraction, seed=0)


def test_drawn_order_is_fixed():
    assert drawn_order(6, 0) == [5, 2, 1, 3, 0, 4]
    assert drawn_order(6, 1) != drawn_order(6, 0)


def test_split_id_out_of_range_raises():
    assert check_split_id("viper", 19, 20) == 19
    with pytest.raises(ValueError, match=r"data\.split_id=20 .*viper .*0 to 19"):
        check_split_id("viper", 20, 20)
