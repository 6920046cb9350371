"""University-1652: views, folders and errors, on generated files."""

from itertools import permutations

import pytest

from helpers.datasets import draw, ids, loading
from reidlit.data.datasets.university1652 import University1652

FILES = [
    "train/satellite/0839/0839.jpg",
    "train/drone/0839/image-01.jpeg",
    "train/drone/0839/image-02.jpeg",
    "train/drone/0842/image-01.jpeg",
    "train/street/0842/1.jpg",
    "train/google/0839/a.png",
    "test/query_satellite/0001/0001.jpg",
    "test/query_drone/0001/image-01.jpeg",
    "test/query_drone/0002/image-01.jpeg",
    "test/query_street/0002/3.jpg",
    "test/gallery_satellite/0001/0001.jpg",
    "test/gallery_satellite/0002/0002.jpg",
    "test/gallery_satellite/1000/1000.jpg",
    "test/gallery_drone/0002/image-07.jpeg",
    "test/gallery_street/1000/1.jpg",
    "test/4K_drone/0001/image-01.jpeg",
]
QUERY = {"satellite": [(1, 0)], "drone": [(1, 1), (2, 1)], "street": [(2, 2)]}
GALLERY = {"satellite": [(1, 0), (2, 0), (1000, 0)], "drone": [(2, 1)], "street": [(1000, 2)]}


@pytest.fixture
def base(tmp_path):
    base = tmp_path / "university1652" / "University-Release"
    for file in FILES:
        draw(base / file)
    (base / "train/google/0842").mkdir()  # some buildings have no images in a view
    (base / "train/drone/.hidden").mkdir()
    (base / "train/drone/Thumbs.db").write_bytes(b"stray")
    (base / "train/drone/0842/._image-01.jpeg").write_bytes(b"stray")
    return base


def test_default_trains_on_all_views_and_searches_satellite_images_by_drone(base, tmp_path):
    data = University1652(str(tmp_path), **loading())
    train = data.samples("train")
    assert ids(train) == [(839, 0), (839, 1), (839, 1), (842, 1), (842, 2), (839, 3)]
    assert train[2].path == str(base / "train/drone/0839/image-02.jpeg")
    assert ids(data.samples("query")) == QUERY["drone"]
    assert ids(data.samples("gallery")) == GALLERY["satellite"]
    assert data.published() == data.statistics == {"query": (701, 37_855, 1), "gallery": (951, 951, 1)}


@pytest.mark.usefixtures("base")
@pytest.mark.parametrize(("query", "gallery"), list(permutations(QUERY, 2)))
def test_query_and_gallery_views(query, gallery, tmp_path):
    data = University1652(str(tmp_path), query=query, gallery=gallery, **loading())
    assert ids(data.samples("query")) == QUERY[query]
    assert ids(data.samples("gallery")) == GALLERY[gallery]
    published = data.published()
    assert published["query"].images == {"satellite": 701, "drone": 37_855, "street": 2_579}[query]
    assert (
        published["gallery"][:2] == {"satellite": (951, 951), "drone": (951, 51_355), "street": (793, 2_921)}[gallery]
    )


@pytest.mark.usefixtures("base")
def test_train_views_select_views(tmp_path):
    data = University1652(str(tmp_path), train_views=["ground", "satellite", "satellite"], **loading())
    assert ids(data.samples("train")) == [(839, 0), (842, 2)]
    combined = University1652(str(tmp_path), train_views=["drone"], **loading(combineall=True))
    combined.setup("fit")
    assert combined.pids == [1, 2, 839, 842, 1000]


def test_ground_is_a_synonym_of_street(tmp_path):
    data = University1652(str(tmp_path), query="ground", gallery="drone", **loading())
    assert (data.query_view, data.gallery_view) == ("street", "drone")


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        ({"query": "satellite"}, "data.query=satellite and data.gallery=satellite"),
        ({"query": "ground", "gallery": "street"}, "data.query=ground and data.gallery=street"),
        ({"query": "google"}, "data.query: .*'google' .*satellite, drone, street"),
        ({"gallery": "aerial"}, "data.gallery: .*'aerial'"),
        ({"train_views": ["drone", "aerial"]}, "data.train_views: .*'aerial'.*google"),
        ({"train_views": "drone"}, "data.train_views=drone "),
        ({"train_views": []}, r"data\.train_views=\[\] "),
    ],
)
def test_invalid_view_raises(options, pattern, tmp_path):
    with pytest.raises(ValueError, match=pattern):
        University1652(str(tmp_path), **options, **loading())


def test_invalid_building_folder_raises(base, tmp_path):
    draw(base / "test/gallery_satellite/campus/1.jpg")
    with pytest.raises(ValueError, match=r"gallery_satellite.campus .*University-1652"):
        University1652(str(tmp_path), **loading()).setup("test")


def test_missing_folder_raises(tmp_path):
    with pytest.raises(FileNotFoundError, match="reidlit prepare data=university1652"):
        University1652(str(tmp_path), **loading()).setup("fit")
    draw(tmp_path / "university1652/University-Release/train/satellite/0839/0839.jpg")
    with pytest.raises(FileNotFoundError, match=r"train.drone"):
        University1652(str(tmp_path), **loading()).setup("fit")
