"""Archives, sound and hostile."""

import io
import tarfile
import zipfile

import pytest

from reidlit.data.archive import unpack


def make_zip(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def make_tar(path, files, link=None):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        if link:
            entry = tarfile.TarInfo("link")
            entry.type, entry.linkname = tarfile.SYMTYPE, link
            archive.addfile(entry)
    return path


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_unpacks_and_repeats(make, tmp_path):
    archive = make(tmp_path / "a.bin", {"set/train/0001.jpg": b"one", "set/query/0002.jpg": b"two"})
    target = tmp_path / "target"
    unpack(archive, target)
    assert (target / "set/train/0001.jpg").read_bytes() == b"one"
    before = (target / "set/train/0001.jpg").stat().st_mtime_ns
    (target / "set/query/0002.jpg").write_bytes(b"t")  # as a run that was cut short leaves it
    unpack(archive, target)
    assert (target / "set/query/0002.jpg").read_bytes() == b"two"
    assert (target / "set/train/0001.jpg").stat().st_mtime_ns == before


@pytest.mark.parametrize("make", [make_zip, make_tar])
@pytest.mark.parametrize("name", ["../evil.txt", "/evil.txt", "a/../../evil.txt", "..\\evil.txt", "C:\\evil.txt"])
def test_never_writes_outside(make, name, tmp_path):
    archive = make(tmp_path / "a.bin", {"fine.txt": b"", name: b"evil"})
    with pytest.raises(ValueError, match="leads outside"):
        unpack(archive, tmp_path / "target" / "deep")
    assert not list(tmp_path.rglob("*evil*"))
    assert not (tmp_path / "target").exists()


def test_links_are_refused(tmp_path):
    archive = make_tar(tmp_path / "a.tgz", {"fine.txt": b""}, link="/etc/passwd")
    with pytest.raises(ValueError, match="link or device"):
        unpack(archive, tmp_path / "target")


def test_damaged_and_foreign_files(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {"x.bin": bytes(range(256)) * 100})
    data = bytearray(archive.read_bytes())
    data[60] ^= 255
    (tmp_path / "flipped.zip").write_bytes(data)
    with pytest.raises(ValueError, match="damaged"):
        unpack(tmp_path / "flipped.zip", tmp_path / "target")
    assert not list((tmp_path / "target").rglob("*"))
    (tmp_path / "cut.zip").write_bytes(archive.read_bytes()[:500])
    with pytest.raises(ValueError, match="neither a zip nor a tar"):
        unpack(tmp_path / "cut.zip", tmp_path / "target")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.zip"):
        unpack(tmp_path / "nowhere.zip", tmp_path / "target")
