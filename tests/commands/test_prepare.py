"""`reidlit prepare`."""

import io
import re
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from PIL import Image

from reidlit.data.datamodule import Statistics
from reidlit.data.datasets.viper import VIPeR

MARKET = [
    f"Market-1501-v15.09.15/{name}"
    for name in ("bounding_box_train/0002_c1s1_1.jpg", "query/0001_c1s1_1.jpg", "bounding_box_test/0001_c2s1_1.jpg")
]
PAIRS = [f"VIPeR/cam_{camera}/{number:03d}_0.bmp" for camera in "ab" for number in range(4)]


def archive_of(path, names):
    content = io.BytesIO()
    Image.new("RGB", (8, 16)).save(content, "JPEG")
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, content.getvalue())
    return path


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Return the data root, which does not exist yet."""
    monkeypatch.setenv("REIDLIT_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def small_viper(monkeypatch):
    """Reduce the published statistics of VIPeR to four identities, so that a small archive matches them."""
    statistics = {"train": Statistics(2, 4, 2), "query": Statistics(2, 2, 1), "gallery": Statistics(2, 2, None)}
    monkeypatch.setattr(VIPeR, "statistics", statistics)


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Serve the folder `site`; return its address and the list of requests."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    requests = []

    class Handler(SimpleHTTPRequestHandler):
        def log_request(self, code="-", size="-"):
            del size
            requests.append((self.path, int(code)))

        def log_error(self, *arguments):
            pass

    handler = partial(Handler, directory=str(tmp_path / "site"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", requests
        server.shutdown()
        thread.join()


def test_archive_is_unpacked_and_statistics_are_compared(reidlit, tmp_path, data):
    archive_of(tmp_path / "market.zip", MARKET)
    result = reidlit("prepare", "data=market1501", "archive=market.zip")
    assert (data / "market1501/Market-1501-v15.09.15/query/0001_c1s1_1.jpg").is_file()
    assert "751 / 12936 / 6" in result.out
    assert re.search(r"(?i)\nlicen[cs]e: research use only", result.out)
    assert re.search(r"(?i)\npaper: Zheng et al\.", result.out)
    assert result.status == 1
    assert all(text in result.err for text in ("data=market1501", "train, query, gallery"))


@pytest.mark.usefixtures("small_viper")
def test_download_is_unpacked_and_repeatable(reidlit, tmp_path, data, site, monkeypatch):
    address, requests = site
    archive_of(tmp_path / "site/VIPeR.v1.0.zip", PAIRS)
    monkeypatch.setattr(VIPeR, "url", f"{address}/VIPeR.v1.0.zip")
    for _ in range(2):
        result = reidlit("prepare", "data=viper", "download=true")
        assert result.status == 0, result.err
        assert result.out.count("matches") == 3  # one per split
        assert str(data / "archives/VIPeR.v1.0.zip") in result.out
        assert len(list((data / "viper/VIPeR").rglob("*.bmp"))) == 8
    assert requests == [("/VIPeR.v1.0.zip", 200)]
    (data / "archives/VIPeR.v1.0.zip").unlink()
    (tmp_path / "site/VIPeR.v1.0.zip").unlink()
    result = reidlit("prepare", "data=viper", "download=true")
    assert result.status == 1
    assert "404" in result.err
    monkeypatch.setattr(VIPeR, "sha256", "0" * 64)
    archive_of(tmp_path / "site/VIPeR.v1.0.zip", PAIRS)
    assert "0000" in reidlit("prepare", "data=viper", "download=true").err


@pytest.mark.usefixtures("small_viper")
def test_archive_may_be_a_url(reidlit, tmp_path, data, site):
    address, _ = site
    archive_of(tmp_path / "site/mirror.zip", PAIRS)
    result = reidlit(
        "prepare", "data=viper", f"archive='{address}/mirror.zip?version=1'"
    )  # quoted for Hydra because of the =
    assert result.status == 0, result.err
    assert (data / "archives/mirror.zip").is_file()
    for url in ("ftp://127.0.0.1/a.zip", address):
        result = reidlit("prepare", "data=viper", f"archive={url}")
        assert (result.status, url in result.err) == (1, True), result.err


def test_download_without_public_url_is_refused(reidlit, data):
    result = reidlit("prepare", "data=market1501", "download=true")
    assert result.status == 1
    assert all(text in result.err for text in ("download=true", "https://", "data=market1501 archive=<file>"))
    result = reidlit("prepare", "data=multi", "data.sources=[viper,market1501]", "download=true")
    assert all(text in result.err for text in ("download=true", "market1501"))
    result = reidlit("prepare", "data=viper", "archive=a.zip", "download=true")
    assert all(text in result.err for text in ("archive=a.zip", "download=true"))
    assert not data.exists()


@pytest.mark.usefixtures("small_viper")
def test_several_datasets_are_prepared(reidlit, tmp_path, data, site, monkeypatch):
    address, _ = site
    archive_of(tmp_path / "site/VIPeR.v1.0.zip", PAIRS)
    monkeypatch.setattr(VIPeR, "url", f"{address}/VIPeR.v1.0.zip")
    monkeypatch.setattr(VIPeR, "usage_notice", "four people")
    result = reidlit(
        "prepare",
        "data=multi",
        "data.sources=[viper]",
        "data.targets=[{viper:{split_id:1,name:other}}]",
        "download=true",
    )
    assert result.status == 0, result.err
    assert (data / "viper/VIPeR/cam_a").is_dir()
    assert "viper/train" in result.out
    assert "other/query" in result.out
    for name in ("viper", "other"):
        assert re.search(rf"(?i)\n{name}: four people\n{name}: licen[cs]e", result.out)
    result = reidlit("prepare", "data=multi", "data.sources=[viper]", "archive=a.zip")
    assert "archive=a.zip" in result.err


def test_synthetic_data_is_generated(reidlit, data):
    result = reidlit("prepare", "data.num_identities=4", "data.num_test=2", "data.num_cameras=2", "data.shots=2")
    assert result.status == 0, result.err
    assert len(list(data.rglob("*.jpg"))) == 16


def test_custom_images_are_prepared(reidlit, tmp_path):
    names = [f"crops/{person}/{image}.jpg" for person in ("anna", "ben", "cem", "dora") for image in "123"]
    with zipfile.ZipFile(archive_of(tmp_path / "crops.zip", names)) as archive:
        archive.extractall(tmp_path)
    lines = [
        f"{name},{name.split('/')[1]},{('train', 'train', 'query', 'gallery')[n // 3]}" for n, name in enumerate(names)
    ]
    (tmp_path / "people.csv").write_text("\n".join(["path,pid,split", *lines]))
    for options in (["data=folder", "data.root=crops"], ["data=csv", "data.file=people.csv"]):
        result = reidlit("prepare", *options)
        assert result.status == 0, result.err
        assert all(split in result.out for split in ("train", "query", "gallery"))
        result = reidlit("prepare", *options, "archive=crops.zip")
        assert "archive=crops.zip" in result.err
    assert (tmp_path / "splits/crops.csv").is_file()


@pytest.mark.usefixtures("data")
def test_missing_and_hostile_archives_are_refused(reidlit, tmp_path):
    assert "nowhere.zip" in reidlit("prepare", "data=market1501", "archive=nowhere.zip").err
    archive_of(tmp_path / "evil.zip", ["../../../evil.jpg"])
    result = reidlit("prepare", "data=market1501", "archive=evil.zip")
    assert "../../../evil.jpg" in result.err
    assert not list(tmp_path.rglob("evil.jpg"))


@pytest.mark.usefixtures("data")
def test_missing_dataset_names_its_source(reidlit, tmp_path):
    message = reidlit("prepare", "data=market1501").err
    assert "archive=<file>" in message
    assert message.count("https://") == 1
    assert "data=viper download=true" in reidlit("prepare", "data=viper").err
    archive_of(tmp_path / "other.zip", PAIRS)
    message = reidlit("prepare", "data=market1501", "archive=other.zip").err
    assert "bounding_box_train" in message
    assert "https://" in message
