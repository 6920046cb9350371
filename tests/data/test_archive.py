"""Extraction of valid, damaged and malicious archives."""

import errno
import io
import stat
import tarfile
import zipfile
from types import SimpleNamespace

import pytest

from reidlit.data import archive as module
from reidlit.data import disk_space
from reidlit.data.archive import unpack

TAR_MODES = {".tar": "w", ".tgz": "w:gz", ".tar.bz2": "w:bz2", ".tar.xz": "w:xz"}
CONTENT = bytes(range(256)) * 100


def make(path, files, mode=0):
    """Write an archive whose format depends on its suffix; `mode` is the file mode of zip members."""
    files = files.items() if isinstance(files, dict) else files
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files:
                item = zipfile.ZipInfo(name)
                item.create_system, item.external_attr = 3, mode << 16
                archive.writestr(item, content)
        return path
    kind = next(kind for end, kind in TAR_MODES.items() if path.name.endswith(end))
    with tarfile.open(path, kind) as archive:
        for name, content in files:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def make_invalid_tar(path, **changes):
    """Write a tar archive with a valid file and a member with the given attributes."""
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("fine.txt"))
        entry = tarfile.TarInfo("odd")
        for name, value in changes.items():
            setattr(entry, name, value)
        archive.addfile(entry)
    return path


@pytest.mark.parametrize("suffix", [".zip", *TAR_MODES])
def test_unpack_can_be_repeated_and_resumed(suffix, tmp_path, monkeypatch):
    archive = make(
        tmp_path / f"a{suffix}",
        {
            "set/": b"",
            "./set/train/0001.jpg": b"one",
            "set\\query\\0002.jpg": b"two",
            "set/12:30.jpg": b"",
            "big": CONTENT,
        },
    )
    target = tmp_path / "target"
    unpack(archive, target)
    expected = {"set/train/0001.jpg": b"one", "set/query/0002.jpg": b"two", "set/12:30.jpg": b"", "big": CONTENT}
    assert {
        str(file.relative_to(target)): file.read_bytes() for file in target.rglob("*") if file.is_file()
    } == expected
    before = (target / "set/train/0001.jpg").stat().st_mtime_ns
    (target / "set/query/0002.jpg").write_bytes(b"t")  # incomplete, as after an interruption
    unpack(archive, target)
    assert (target / "set/query/0002.jpg").read_bytes() == b"two"
    assert (target / "set/train/0001.jpg").stat().st_mtime_ns == before
    monkeypatch.setattr(module, "_extract", None)  # fails if anything is written
    unpack(archive, target)


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("../evil.txt", "outside .*deep"),
        ("/evil.txt", "outside .*deep"),
        ("a/../../evil.txt", "outside .*deep"),
        ("..\\evil.txt", "outside .*deep"),
        ("\\evil.txt", "outside .*deep"),
        ("C:\\evil.txt", "outside .*deep"),
        ("a/C:evil.txt", "outside .*deep"),
        ("//server/share/evil.txt", "outside .*deep"),
        ("fine.txt/evil.txt", "'fine.txt'"),
        (".", "'.'"),
    ],
)
def test_invalid_path_raises(suffix, name, pattern, tmp_path):
    archive = make(tmp_path / f"a{suffix}", {"fine.txt": b"", name: b"evil"})
    with pytest.raises(ValueError, match=pattern):
        unpack(archive, tmp_path / "target" / "deep")
    assert list(tmp_path.iterdir()) == [archive]


def test_name_with_nul_raises(tmp_path):
    archive = make(tmp_path / "a.zip", {"fine.jpg#evil": b"evil"})
    archive.write_bytes(archive.read_bytes().replace(b"#", b"\0"))
    with pytest.raises(ValueError, match=r"'fine\.jpg\\x00evil'"):
        unpack(archive, tmp_path / "target")
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        entry = tarfile.TarInfo("fine.jpg")
        entry.pax_headers = {"path": "fine.jpg\0evil"}
        tar.addfile(entry)
    with pytest.raises(ValueError, match=r"fine.jpg"):
        unpack(tmp_path / "a.tar", tmp_path / "target")
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_link_or_device_in_tar_raises(kind, tmp_path):
    archive = make_invalid_tar(tmp_path / "a.tar", type=kind, linkname="/etc/passwd")
    with pytest.raises(ValueError, match="'odd'"):
        unpack(archive, tmp_path / "target")
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_link_or_device_in_zip_raises(mode, tmp_path):
    archive = make(tmp_path / "a.zip", {"odd": b"/etc/passwd"}, mode | 0o777)
    with pytest.raises(ValueError, match="'odd'"):
        unpack(archive, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_file_mode_of_archive_is_ignored(tmp_path):
    unpack(make(tmp_path / "a.zip", {"odd": b""}, stat.S_IFREG | stat.S_ISUID | 0o777), tmp_path / "target")
    assert not (tmp_path / "target/odd").stat().st_mode & (stat.S_ISUID | stat.S_IXUSR)


def test_insufficient_disk_space_raises(tmp_path, monkeypatch):
    bomb = make(tmp_path / "a.zip", {"bomb.bin": b"small"})
    data = bytearray(bomb.read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = b"\xfe\xff\xff\xff"  # 4.3 GB in the central directory
    bomb.write_bytes(data)
    sparse = make_invalid_tar(tmp_path / "a.tar", size=1 << 60)
    monkeypatch.setattr(
        disk_space.shutil, "disk_usage", lambda path: SimpleNamespace(free=10**9 if path.is_dir() else 0)
    )
    for archive, needs in ((bomb, "4.3 GB"), (sparse, "1,152,921,504.6 GB")):
        with pytest.raises(OSError, match=f"{archive.name}.* {needs}.*deep .*1.0 GB") as error:
            unpack(archive, tmp_path / "target/deep")
        assert error.value.errno == errno.ENOSPC
        assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_existing_files_need_no_disk_space(suffix, tmp_path, monkeypatch):
    archive = make(tmp_path / f"a{suffix}", {"a": b"12345", "b": b"1"})
    monkeypatch.setattr(disk_space.shutil, "disk_usage", lambda _: SimpleNamespace(free=5))
    with pytest.raises(OSError, match=f"a{suffix}"):
        unpack(archive, tmp_path / "target")
    (tmp_path / "target").mkdir()
    (tmp_path / "target/a").write_bytes(b"12345")
    unpack(archive, tmp_path / "target")
    assert (tmp_path / "target/b").read_bytes() == b"1"


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_last_member_of_equal_names_is_used(suffix, tmp_path):
    archive = make(tmp_path / f"a{suffix}", [("a/x", b"first"), ("a/y", b"y"), ("./a/x", b"second")])
    for _ in range(2):
        unpack(archive, tmp_path / "target")
        assert (tmp_path / "target/a/x").read_bytes() == b"second"


def test_names_in_code_page_437_are_decoded(tmp_path):
    archive = make(tmp_path / "a.zip", {"caf#.jpg": b"zip"})
    archive.write_bytes(archive.read_bytes().replace(b"#", b"\x82"))  # code page 437
    unpack(archive, tmp_path / "zip")
    archive = make(tmp_path / "a.tar", {"caf\udc82.jpg": b"tar", "é.jpg": b"utf8"})
    unpack(archive, tmp_path / "tar")
    assert [file.name for file in (tmp_path / "zip").iterdir()] == ["café.jpg"]
    assert sorted(file.name for file in (tmp_path / "tar").iterdir()) == ["café.jpg", "é.jpg"]
    archive = make(tmp_path / "b.zip", {"é.jpg": b""})
    archive.write_bytes(archive.read_bytes().replace("é".encode(), b"\xff\xff"))
    with pytest.raises(ValueError, match=r"b\.zip"):
        unpack(archive, tmp_path / "target")


@pytest.mark.parametrize("suffix", [".zip", *TAR_MODES])
@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_truncated_archive_raises(suffix, fraction, tmp_path):
    archive = make(tmp_path / f"a{suffix}", {f"{name}.bin": CONTENT for name in range(4)})
    data = archive.read_bytes()
    archive.write_bytes(data[: int(fraction * len(data))])
    with pytest.raises(ValueError, match=f"a{suffix}"):
        unpack(archive, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_tar_truncated_between_members_raises(tmp_path):
    archive = make(tmp_path / "a.tar", {"first.bin": bytes(512), "second.bin": b""})
    archive.write_bytes(archive.read_bytes()[:1024])
    with pytest.raises(ValueError, match=r"a\.tar"):
        unpack(archive, tmp_path / "target")


def test_wrong_checksum_in_zip_raises(tmp_path):
    archive = make(tmp_path / "a.zip", {"a.bin": b"whole", "x.bin": CONTENT})
    data = bytearray(archive.read_bytes())
    data[data.index(CONTENT) + 5000] ^= 255
    archive.write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.zip .*Bad CRC-32 for file 'x\.bin'"):
        unpack(archive, tmp_path / "target")
    assert [file.name for file in (tmp_path / "target").iterdir()] == ["a.bin"]


@pytest.mark.parametrize("suffix", [".tgz", ".tar.bz2", ".tar.xz"])
def test_wrong_checksum_in_compressed_tar_raises(suffix, tmp_path):
    archive = make(tmp_path / f"a{suffix}", {"x.bin": CONTENT})
    data = bytearray(archive.read_bytes())
    data[{".tgz": -8, ".tar.bz2": 11, ".tar.xz": len(data) // 2}[suffix]] ^= 255
    archive.write_bytes(data)
    with pytest.raises(ValueError, match=f"a{suffix}"):
        unpack(archive, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_unsupported_archive_raises(tmp_path):
    archive = make(tmp_path / "a.zip", {"x.bin": b"secret"})
    data = bytearray(archive.read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + 8] |= 1
    archive.write_bytes(data)
    with pytest.raises(ValueError, match=r"'x\.bin'"):
        unpack(archive, tmp_path / "target")
    data[entry + 8] ^= 1
    data[entry + 10] = 9  # deflate64
    archive.write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.zip"):
        unpack(archive, tmp_path / "target")
    (tmp_path / "page.html").write_text("<html>")
    with pytest.raises(ValueError, match=r"page\.html"):
        unpack(tmp_path / "page.html", tmp_path / "target")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.zip"):
        unpack(tmp_path / "nowhere.zip", tmp_path / "target")


def test_tar_that_ends_with_zip_is_read_as_tar(tmp_path):
    inner = make(tmp_path / "inner.zip", {"x": b""})
    unpack(make(tmp_path / "a.tar", {"set/inner.zip": inner.read_bytes()}), tmp_path / "target")
    assert [file.name for file in (tmp_path / "target").rglob("*")] == ["set", "inner.zip"]
