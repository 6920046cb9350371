"""Drawn pedestrians with attributes: labels of persons, splits of identities."""

import pytest

from helpers.datasets import loading
from reidlit.data.datasets.synthetic_attributes import SyntheticAttributes, attributes_of

SMALL = {"num_identities": 30, "num_val": 5, "num_test": 8, "image_height": 32, "image_width": 16}


def test_identities_are_divided_and_every_image_has_the_labels_of_its_person(drawn):
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


def test_labels_say_what_is_drawn():
    data = SyntheticAttributes("nowhere", **SMALL | {"num_identities": 300}, **loading())
    people = [data.pictures.person(pid) for pid in range(300)]
    found = [attributes_of(person) for person in people]
    for person, labels in zip(people, found, strict=True):
        assert labels["backpack"] == (person.bag == "backpack")
        assert labels["hat"] == (person.hat in ("cap", "beanie"))
        assert (labels["dark_trousers"] == -1) == (person.upper == "dress") == bool(labels["dress"])
        assert labels["bare_legs"] or person.lower == "trousers"
        if max(person.upper_colour) < 80:
            assert labels["dark_top"]
        if min(person.upper_colour) > 100:
            assert not labels["dark_top"]
    for name in found[0]:  # both values are there to be learnt
        known = [labels[name] for labels in found if labels[name] >= 0]
        assert 0.05 < sum(known) / len(known) < 0.7, name


def test_splits_without_people_are_refused():
    with pytest.raises(ValueError, match=r"data\.num_val=0"):
        SyntheticAttributes("nowhere", **SMALL | {"num_val": 0}, **loading())
    with pytest.raises(ValueError, match=r"leave some of data\.num_identities=13"):
        SyntheticAttributes("nowhere", **SMALL | {"num_identities": 13}, **loading())
