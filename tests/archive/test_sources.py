"""Where an archive's photos come from."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hierseg.archive.places import ArchiveError, Place
from hierseg.archive.sources import Source
from hierseg.photo import PhotoError

Contents = dict[str, bytes]


def content(source: Source, out: Place | None = None) -> dict[str, bytes | str]:
    photos, _ = source.photos(out or Place.of("elsewhere"))
    told = [str(each) if isinstance(each, PhotoError) else each for each in source.read(photos)]
    names = photos["photo"].to_pylist()
    assert len(set(names)) == len(names) == len(told)
    return dict(zip(names, told, strict=True))


@pytest.fixture(scope="module")
def contents(photos: Path) -> Contents:
    files = [path for path in photos.rglob("*") if path.is_file() and "/." not in str(path) and path.suffix != ".doc"]
    return {path.relative_to(photos).as_posix(): path.read_bytes() for path in sorted(files)}


def packed(contents: Contents) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in {**contents, "sample.json": b"{}", ".hidden/1.jpg": b"hidden"}.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def rows(contents: Contents, nested: bool) -> bytes:
    values = list(contents.values())
    column = pa.array([{"bytes": data, "path": None} for data in values]) if nested else pa.array(values)
    buffer = io.BytesIO()
    pq.write_table(pa.table({"caption": ["?"] * len(values), "image": column}), buffer, row_group_size=25)
    return buffer.getvalue()


@pytest.mark.parametrize("where", ["local", "s3"])
@pytest.mark.parametrize("kind", ["folder", "a.tar", "b.parquet", "nested.parquet", "list.txt"])
def test_every_source_gives_the_same_photos(
    kind: str, where: str, contents: Contents, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    options = request.getfixturevalue("store") if where == "s3" else ""
    base = f"s3://bucket/{tmp_path.name} {kind}" if where == "s3" else str(tmp_path)
    root = Place.of(base + options)
    make: dict[str, Callable[[], bytes]] = {
        "a.tar": lambda: packed(contents),
        "b.parquet": lambda: rows(contents, nested=False),
        "nested.parquet": lambda: rows(contents, nested=True),
        "list.txt": lambda: "\r\n".join(("", *(f"{tmp_path}/{name}" for name in contents), "")).encode(),
    }
    if kind in ("folder", "list.txt"):
        for name, data in {**contents, ".hidden/1.jpg": b"hidden", "out/photo.jpg": b"a result"}.items():
            (root / name if kind == "folder" else Place.of(f"{tmp_path}/{name}")).write(data)
    if kind in make:
        (root / kind).write(make[kind]())
    source = Source(base + ("" if kind == "folder" else f"/{kind}") + options)
    found = content(source, root / "out")
    before = {"folder": "", "list.txt": f"{tmp_path}/"}.get(kind, f"{kind}/")
    if kind.endswith("parquet"):
        assert found == {f"{kind}/{row}": data for row, data in enumerate(contents.values())}
    else:
        assert found == {f"{before}{name}": data for name, data in contents.items()}
    assert "secret" not in source.name and "?" not in source.name


def test_what_cannot_be_read_is_said_and_costs_no_other_photo(contents: Contents, tmp_path: Path) -> None:
    whole = packed(contents)
    (tmp_path / "cut.tar").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "damaged.parquet").write_bytes(b"PAR1")
    pq.write_table(pa.table({"caption": ["?"]}), tmp_path / "none.parquet")
    (tmp_path / "photo.jpg").write_bytes(b"photo")
    (tmp_path / "gone.jpg").symlink_to("nowhere")
    found = content(Source(str(tmp_path)))
    in_tar = {f"cut.tar/{name}": data for name, data in contents.items()}
    read = {name: data for name, data in found.items() if in_tar.get(name) == data}
    assert len(read) > 20 and found["photo.jpg"] == b"photo"
    for name in ("cut.tar", "damaged.parquet", "gone.jpg"):
        assert f"{name} cannot be read" in str(found[name])
    assert "no column of bytes" in str(found["none.parquet"])


def test_storage_that_is_gone_is_no_fault_of_the_photos(tmp_path: Path, store: str) -> None:
    folder = tmp_path / "photos"
    Place.of(f"{folder}/1.jpg").write(b"photo")
    source = Source(str(folder))
    photos, _ = source.photos(Place.of("elsewhere"))
    folder.rename(tmp_path / "moved")
    with pytest.raises(OSError, match="is gone"):
        list(source.read(photos))
    with pytest.raises(ArchiveError, match="does not exist"):
        Source(str(folder))
