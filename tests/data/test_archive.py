"""Archives, sound, damaged and hostile."""

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
    """An archive of the kind that its name says; `mode` is that of every member of a zip archive."""
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


def make_odd_tar(path, **changes):
    """A tar archive of a sound file and of one with these attributes."""
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("fine.txt"))
        entry = tarfile.TarInfo("odd")
        for name, value in changes.items():
            setattr(entry, name, value)
        archive.addfile(entry)
    return path


@pytest.mark.parametrize("suffix", [".zip", *TAR_MODES])
def test_unpacks_repeats_and_resumes(suffix, tmp_path, monkeypatch):
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
    (target / "set/query/0002.jpg").write_bytes(b"t")  # as some other program that was cut short leaves it
    unpack(archive, target)
    assert (target / "set/query/0002.jpg").read_bytes() == b"two"
    assert (target / "set/train/0001.jpg").stat().st_mtime_ns == before
    monkeypatch.setattr(module, "_extract", None)  # all is there: nothing may be written
    unpack(archive, target)


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../evil.txt", "leads outside"),
        ("/evil.txt", "leads outside"),
        ("a/../../evil.txt", "leads outside"),
        ("..\\evil.txt", "leads outside"),
        ("\\evil.txt", "leads outside"),
        ("C:\\evil.txt", "leads outside"),
        ("a/C:evil.txt", "leads outside"),
        ("//server/share/evil.txt", "leads outside"),
        ("fine.txt/evil.txt", "a file and a folder"),
        (".", "no file's name"),
    ],
)
def test_never_writes_outside(suffix, name, reason, tmp_path):
    archive = make(tmp_path / f"a{suffix}", {"fine.txt": b"", name: b"evil"})
    with pytest.raises(ValueError, match=reason):
        unpack(archive, tmp_path / "target" / "deep")
    assert list(tmp_path.iterdir()) == [archive]


def test_a_name_with_nul_is_refused(tmp_path):
    archive = make(tmp_path / "a.zip", {"fine.jpg#evil": b"evil"})
    archive.write_bytes(archive.read_bytes().replace(b"#", b"\0"))
    with pytest.raises(ValueError, match=r"'fine.jpg\\x00evil', which is no file's name"):
        unpack(archive, tmp_path / "target")
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        entry = tarfile.TarInfo("fine.jpg")
        entry.pax_headers = {"path": "fine.jpg\0evil"}
        tar.addfile(entry)
    with pytest.raises(ValueError, match="no file's name"):
        unpack(tmp_path / "a.tar", tmp_path / "target")
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_of_a_tar_are_refused(kind, tmp_path):
    archive = make_odd_tar(tmp_path / "a.tar", type=kind, linkname="/etc/passwd")
    with pytest.raises(ValueError, match="'odd', which is a link or device"):
        unpack(archive, tmp_path / "target")
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_links_and_devices_of_a_zip_are_refused(mode, tmp_path):
    archive = make(tmp_path / "a.zip", {"odd": b"/etc/passwd"}, mode | 0o777)
    with pytest.raises(ValueError, match="'odd', which is a link or device"):
        unpack(archive, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_a_file_is_written_with_the_users_own_rights(tmp_path):
    unpack(make(tmp_path / "a.zip", {"odd": b""}, stat.S_IFREG | stat.S_ISUID | 0o777), tmp_path / "target")
    assert not (tmp_path / "target/odd").stat().st_mode & (stat.S_ISUID | stat.S_IXUSR)


def test_more_than_the_disk_holds(tmp_path, monkeypatch):
    bomb = make(tmp_path / "a.zip", {"bomb.bin": b"small"})
    data = bytearray(bomb.read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = b"\xfe\xff\xff\xff"  # 4.3 GB, as the directory states it
    bomb.write_bytes(data)
    sparse = make_odd_tar(tmp_path / "a.tar", size=1 << 60)
    monkeypatch.setattr(
        disk_space.shutil, "disk_usage", lambda path: SimpleNamespace(free=10**9 if path.is_dir() else 0)
    )
    for archive, needs in ((bomb, "4.3 GB"), (sparse, "1,152,921,504.6 GB")):
        with pytest.raises(OSError, match=f"needs at least {needs}, but the disk of .* has 1.0 GB free") as caught:
            unpack(archive, tmp_path / "target/deep")
        assert caught.value.errno == errno.ENOSPC
        assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_what_is_there_needs_no_room(suffix, tmp_path, monkeypatch):
    archive = make(tmp_path / f"a{suffix}", {"a": b"12345", "b": b"1"})
    monkeypatch.setattr(disk_space.shutil, "disk_usage", lambda _: SimpleNamespace(free=5))
    with pytest.raises(OSError, match="Make room"):
        unpack(archive, tmp_path / "target")
    (tmp_path / "target").mkdir()
    (tmp_path / "target/a").write_bytes(b"12345")
    unpack(archive, tmp_path / "target")
    assert (tmp_path / "target/b").read_bytes() == b"1"


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_the_later_of_two_with_one_name_counts(suffix, tmp_path):
    archive = make(tmp_path / f"a{suffix}", [("a/x", b"first"), ("a/y", b"y"), ("./a/x", b"second")])
    for _ in range(2):
        unpack(archive, tmp_path / "target")
        assert (tmp_path / "target/a/x").read_bytes() == b"second"


def test_names_in_other_encodings(tmp_path):
    archive = make(tmp_path / "a.zip", {"caf#.jpg": b"zip"})
    archive.write_bytes(archive.read_bytes().replace(b"#", b"\x82"))  # code page 437, as DOS wrote it
    unpack(archive, tmp_path / "zip")
    archive = make(tmp_path / "a.tar", {"caf\udc82.jpg": b"tar", "é.jpg": b"utf8"})
    unpack(archive, tmp_path / "tar")
    assert [file.name for file in (tmp_path / "zip").iterdir()] == ["café.jpg"]
    assert sorted(file.name for file in (tmp_path / "tar").iterdir()) == ["café.jpg", "é.jpg"]
    archive = make(tmp_path / "b.zip", {"é.jpg": b""})
    archive.write_bytes(archive.read_bytes().replace("é".encode(), b"\xff\xff"))
    with pytest.raises(ValueError, match="damaged"):
        unpack(archive, tmp_path / "target")


@pytest.mark.parametrize("suffix", [".zip", *TAR_MODES])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_cut_in_the_middle(suffix, share, tmp_path):
    archive = make(tmp_path / f"a{suffix}", {f"{name}.bin": CONTENT for name in range(4)})
    data = archive.read_bytes()
    archive.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ValueError, match="cut short"):
        unpack(archive, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_cut_between_two_members_of_a_tar(tmp_path):
    archive = make(tmp_path / "a.tar", {"first.bin": bytes(512), "second.bin": b""})
    archive.write_bytes(archive.read_bytes()[:1024])
    with pytest.raises(ValueError, match="it has no end"):
        unpack(archive, tmp_path / "target")


def test_wrong_checksum_in_a_zip(tmp_path):
    archive = make(tmp_path / "a.zip", {"a.bin": b"whole", "x.bin": CONTENT})
    data = bytearray(archive.read_bytes())
    data[data.index(CONTENT) + 5000] ^= 255
    archive.write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.zip is damaged .*Bad CRC-32 for file 'x.bin'.*get it again"):
        unpack(archive, tmp_path / "target")
    assert [file.name for file in (tmp_path / "target").iterdir()] == ["a.bin"]


@pytest.mark.parametrize("suffix", [".tgz", ".tar.bz2", ".tar.xz"])
def test_wrong_checksum_in_a_compressed_tar(suffix, tmp_path):
    archive = make(tmp_path / f"a{suffix}", {"x.bin": CONTENT})
    data = bytearray(archive.read_bytes())
    data[{".tgz": -8, ".tar.bz2": 11, ".tar.xz": len(data) // 2}[suffix]] ^= 255
    archive.write_bytes(data)
    with pytest.raises(ValueError, match="damaged"):
        unpack(archive, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_what_cannot_be_read(tmp_path):
    archive = make(tmp_path / "a.zip", {"x.bin": b"secret"})
    data = bytearray(archive.read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + 8] |= 1
    archive.write_bytes(data)
    with pytest.raises(ValueError, match=r"'x\.bin', which is encrypted"):
        unpack(archive, tmp_path / "target")
    data[entry + 8] ^= 1
    data[entry + 10] = 9  # deflate64
    archive.write_bytes(data)
    with pytest.raises(ValueError, match="Python cannot read"):
        unpack(archive, tmp_path / "target")
    (tmp_path / "page.html").write_text("<html>")
    with pytest.raises(ValueError, match="neither a zip nor a tar"):
        unpack(tmp_path / "page.html", tmp_path / "target")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.zip"):
        unpack(tmp_path / "nowhere.zip", tmp_path / "target")


def test_a_tar_that_ends_in_a_zip_is_a_tar(tmp_path):
    inner = make(tmp_path / "inner.zip", {"x": b""})
    unpack(make(tmp_path / "a.tar", {"set/inner.zip": inner.read_bytes()}), tmp_path / "target")
    assert [file.name for file in (tmp_path / "target").rglob("*")] == ["set", "inner.zip"]
