"""Attributes that a subclass of `ReIDDataModule` declares."""

import pytest

from helpers.datasets import loading
from reidlit.data.datamodule import ReIDDataModule
from reidlit.data.datasets.viper import VIPeR

FORMER = {
    "source": "how_to_obtain",
    "notice": "usage_notice",
    "unit": "item_name",
    "has_identities": "labels_identities",
}


@pytest.mark.parametrize(("old", "new"), FORMER.items())
def test_former_names_of_attributes_work_with_a_warning(old, new, tmp_path):
    with pytest.warns(FutureWarning, match=f"Campus.{old} .*{new}"):
        campus = type("Campus", (ReIDDataModule,), {"name": "campus", old: "some value"})
    data = campus(str(tmp_path), **loading())
    assert getattr(data, new) == "some value"
    with pytest.warns(FutureWarning, match=f"{old} .*{new}"):
        assert getattr(VIPeR(str(tmp_path), **loading()), old) == getattr(VIPeR, new)


def test_how_to_obtain_contains_url():
    assert VIPeR.url in VIPeR.how_to_obtain
