"""Synthetic pedestrians with attributes: labels and splits."""

import pytest

from helpers.datasets import loading
from reidlit.data.datasets.synthetic_attributes import SyntheticAttributes, attributes_of

SMALL = {"num_identities": 30, "num_val": 5, "num_test": 8, "image_height": 32, "image_width": 16}


def test_splits_have_disjoint_identities_and_images_have_labels_of_their_person(drawn):
    data = SyntheticAttributes(str(drawn), **SMALL, **loading())
    data.prepare_data()
    people = {}
    for split, size in (("train", 17), ("val", 5), ("test", 8)):
        samples = data.listed(split)
        pids = [int(sample.path.rpartition("/")[2][:4]) for sample in samples]
        assert len(set(pids)) == size
        assert len(samples) == 2 * size
        for pid, labels in zip(pids, data.labels_of(samples).tolist(), strict=True):
            assert labels == list(attributes_of(data.pictures.person(pid)).values())
            people[pid] = split
    assert len(people) == 30
    data.setup("fit")
    batch = next(iter(data.val_dataloader()[0]))
    assert batch["image"].shape == (4, 3, 32, 16)


def test_labels_match_appearance():
    data = SyntheticAttributes("nowhere", **SMALL | {"num_identities": 300}, **loading())
    people = [data.pictures.person(pid) for pid in range(300)]
    attributes = [attributes_of(person) for person in people]
    for person, labels in zip(people, attributes, strict=True):
        assert labels["backpack"] == (person.bag == "backpack")
        assert labels["hat"] == (person.hat in ("cap", "beanie"))
        assert (labels["dark_trousers"] == -1) == (person.upper == "dress") == bool(labels["dress"])
        assert labels["bare_legs"] or person.lower == "trousers"
        if max(person.upper_colour) < 80:
            assert labels["dark_top"]
        if min(person.upper_colour) > 100:
            assert not labels["dark_top"]
    for name in attributes[0]:  # both values occur
        known = [labels[name] for labels in attributes if labels[name] >= 0]
        assert 0.05 < sum(known) / len(known) < 0.7, name


def test_empty_split_raises():
    with pytest.raises(ValueError, match=r"data\.num_val=0"):
        SyntheticAttributes("nowhere", **SMALL | {"num_val": 0}, **loading())
    with pytest.raises(ValueError, match=r"data\.num_identities=13"):
        SyntheticAttributes("nowhere", **SMALL | {"num_identities": 13}, **loading())
