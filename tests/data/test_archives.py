"""Archives as data sets: read as their content is, once, and nothing of a hostile one is written."""

import io
import logging
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

from sightline.core.errors import DataError
from sightline.data import read_dataset


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "archives"


@pytest.fixture
def plain(tmp_path: Path, save_image) -> Path:
    for split in ("train", "val"):
        save_image(f"set/images/{split}/a.png")
        (tmp_path / f"set/labels/{split}").mkdir(parents=True)
        (tmp_path / f"set/labels/{split}/a.txt").write_text("0 0.5 0.5 0.4 0.4\n")
    (tmp_path / "set/data.yaml").write_text("path: .\ntrain: images/train\nval: images/val\nnames: [cat]\n")
    return tmp_path / "set"


@pytest.mark.parametrize(
    ("kind", "suffix", "base"),
    [("zip", ".zip", "."), ("zip", ".zip", "set"), ("gztar", ".tar.gz", "set"), ("xztar", ".tar.xz", ".")],
)
def test_an_archive_reads_as_its_content(tmp_path: Path, plain: Path, caplog, kind, suffix, base) -> None:
    top = plain if base == "." else plain.parent
    archive = Path(shutil.make_archive(str(tmp_path / "my set"), kind, top, base))
    assert archive.name == f"my set{suffix}"
    caplog.set_level(logging.WARNING)
    packed, read = read_dataset(archive), read_dataset(plain)
    assert (packed.label_digest(), packed.format, packed.splits) == (read.label_digest(), read.format, read.splits)
    assert len(packed.findings) == len(read.findings)
    assert "unpacking my set" in caplog.text
    caplog.clear()
    assert read_dataset(archive).label_digest() == read.label_digest()
    assert not caplog.text, "it lies there already"


def test_an_archive_that_changed_is_unpacked_again(tmp_path: Path, plain: Path) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "s"), "zip", plain))
    assert len(read_dataset(archive).objects) == 2
    (plain / "labels/val/a.txt").write_text("0 0.5 0.5 0.4 0.4\n0 0.2 0.2 0.1 0.1\n")
    shutil.make_archive(str(tmp_path / "s"), "zip", plain)
    assert len(read_dataset(archive).objects) == 3


@pytest.mark.parametrize("name", ["../evil.txt", "/evil.txt", "a/../../evil.txt", "..\\evil.txt", "C:\\evil.txt"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_names_that_lead_out_refuse_the_whole(tmp_path: Path, cache: Path, name: str, kind: str) -> None:
    archive = tmp_path / f"s.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as out:
            out.writestr("fine.txt", "x")
            out.writestr(name, "x")
    else:
        with tarfile.open(archive, "w") as out:
            out.addfile(tarfile.TarInfo("fine.txt"), io.BytesIO())
            out.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(DataError, match="names in an archive must lie in it"):
        read_dataset(archive)
    assert not list(cache.rglob("*"))


def test_links_and_devices_are_left_out(tmp_path: Path, plain: Path) -> None:
    archive = tmp_path / "s.tar"
    with tarfile.open(archive, "w") as out:
        out.add(plain, ".")
        for name, kind, target in (("images/val/b.png", tarfile.SYMTYPE, "/etc/passwd"), ("c", tarfile.CHRTYPE, "")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            out.addfile(info)
    read = read_dataset(archive)
    assert len(read) == 2
    assert not (read.root / "images/val/b.png").is_symlink()


def test_damaged_locked_and_enormous_archives_are_one_sentence(tmp_path: Path, plain: Path, cache, monkeypatch) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "s"), "zip", plain))
    data = archive.read_bytes()
    at = data.find(b"images/val/a.png") + 40
    broken = (data[:200], b"", data[:at] + b"\xff\xff\xff" + data[at + 3 :], b"PK\x03\x04\x14\x00\x01")
    locked = data.replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01")
    for content in (*broken, locked):
        archive.write_bytes(content)
        with pytest.raises(DataError, match="must be whole and without a password"):
            read_dataset(archive)
    archive.write_bytes(data)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 1 << 28))
    with pytest.raises(DataError, match="must fit on the disk"):
        read_dataset(archive)
    assert not list(cache.rglob("*.png"))
