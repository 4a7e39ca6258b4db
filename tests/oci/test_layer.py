"""Layers: the same bytes for the same content, and nothing outside the folder."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaito.oci.digest import LAYER_TAR, LAYER_TAR_GZIP, LAYER_TAR_ZSTD, digest_file, digest_of
from kaito.oci.errors import BadImage
from kaito.oci.layer import Limits, unpack_layers, write_layer


def entry(
    name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"x", link: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    info.size = len(content) if kind == tarfile.REGTYPE else 0
    return info, content


def tar(path: Path, *entries: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for info, content in entries:
            archive.addfile(info, io.BytesIO(content))
    return path


def test_written_layers_are_deterministic_and_true(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        for name in ("b", "a") if folder == "one" else ("a", "b"):
            (tmp_path / folder / name).write_bytes(name.encode() * 1000)
    os.utime(tmp_path / "two" / "a", (1, 1))
    (tmp_path / "two" / "a").chmod(0o600)
    layers = [
        write_layer({f"data/{n}": tmp_path / folder / n for n in names}, tmp_path / f"{folder}.tar.gz")
        for folder, names in (("one", "ba"), ("two", "ab"))
    ]
    assert layers[0].digest == layers[1].digest == digest_file(layers[0].path)
    assert layers[0].diff_id == digest_of(gzip.decompress(layers[0].path.read_bytes()))
    with tarfile.open(layers[0].path) as archive:
        assert archive.getnames() == ["data", "data/a", "data/b"]
        assert {member.mtime for member in archive} == {0}


@pytest.mark.parametrize(
    "evil",
    [
        entry("../out"),
        entry("/etc/out"),
        entry("a/../../out"),
        entry("link", tarfile.SYMTYPE, link="/etc"),
        entry("link", tarfile.SYMTYPE, link="../.."),
        entry("a/link", tarfile.SYMTYPE, link="../../x"),
        entry("link", tarfile.LNKTYPE, link="/etc/passwd"),
        entry("link", tarfile.LNKTYPE, link="../x"),
        entry("link", tarfile.LNKTYPE, link="absent"),
        entry("x", b"Q"),
    ],
    ids=lambda one: f"{one[0].name}->{one[0].linkname or one[0].type.decode()}",
)
def test_nothing_leaves_the_folder(evil: tuple[tarfile.TarInfo, bytes], tmp_path: Path) -> None:
    layer = tar(tmp_path / "l.tar", evil)
    with pytest.raises(BadImage):
        unpack_layers([(layer, LAYER_TAR)], tmp_path / "in")
    assert {path.name for path in tmp_path.iterdir()} <= {"l.tar", "in"}


def test_no_writing_through_a_link(tmp_path: Path) -> None:
    inside = entry("here", tarfile.DIRTYPE)
    link = entry("door", tarfile.SYMTYPE, link="here")
    layer = tar(tmp_path / "l.tar", inside, link, entry("door/file"))
    with pytest.raises(BadImage, match="through a link"):
        unpack_layers([(layer, LAYER_TAR)], tmp_path / "in")


def test_a_link_is_replaced_not_followed(tmp_path: Path) -> None:
    layer = tar(
        tmp_path / "l.tar",
        entry("a", content=b"old"),
        entry("b", tarfile.SYMTYPE, link="a"),
        entry("b", content=b"new"),
    )
    unpack_layers([(layer, LAYER_TAR)], tmp_path / "in")
    assert (tmp_path / "in" / "a").read_bytes() == b"old"
    assert (tmp_path / "in" / "b").read_bytes() == b"new"


def test_good_links_and_devices(tmp_path: Path) -> None:
    layer = tar(
        tmp_path / "l.tar",
        entry("d/a", content=b"1"),
        entry("d/soft", tarfile.SYMTYPE, link="a"),
        entry("hard", tarfile.LNKTYPE, link="d/a"),
        entry("null", tarfile.CHRTYPE),
        entry("pipe", tarfile.FIFOTYPE),
    )
    unpack_layers([(layer, LAYER_TAR)], tmp_path / "in")
    assert (tmp_path / "in" / "d" / "soft").read_bytes() == (tmp_path / "in" / "hard").read_bytes() == b"1"
    assert not (tmp_path / "in" / "null").exists()
    assert not (tmp_path / "in" / "pipe").exists()


def test_later_layers_cover_and_remove(tmp_path: Path) -> None:
    one = tar(tmp_path / "1.tar", entry("a/x"), entry("a/y"), entry("b/z"))
    two = tar(tmp_path / "2.tar", entry("a/.wh.x"), entry("b/.wh..wh..opq"), entry("b/new"))
    unpack_layers([(one, LAYER_TAR), (two, LAYER_TAR)], tmp_path / "in")
    found = {str(path.relative_to(tmp_path / "in")) for path in (tmp_path / "in").rglob("*") if path.is_file()}
    assert found == {"a/y", "b/new"}


@pytest.mark.parametrize(
    ("limits", "words"), [(Limits(entries=2), "more than 2 files"), (Limits(size=5), "more than 5 bytes")]
)
def test_limits(limits: Limits, words: str, tmp_path: Path) -> None:
    layer = tar(tmp_path / "l.tar", entry("a", content=b"123"), entry("b", content=b"456"), entry("c", content=b""))
    with pytest.raises(BadImage, match=words):
        unpack_layers([(layer, LAYER_TAR)], tmp_path / "in", limits)


def test_compressions(tmp_path: Path) -> None:
    import pyarrow

    content = tar(tmp_path / "l.tar", entry("a", content=b"1")).read_bytes()
    (tmp_path / "l.gz").write_bytes(gzip.compress(content))
    (tmp_path / "l.zst").write_bytes(pyarrow.compress(content, codec="zstd", asbytes=True))
    for name, kind in (("l.gz", LAYER_TAR_GZIP), ("l.zst", LAYER_TAR_ZSTD)):
        unpack_layers([(tmp_path / name, kind)], tmp_path / name.replace(".", "-"))
        assert (tmp_path / name.replace(".", "-") / "a").read_bytes() == b"1"
    with pytest.raises(BadImage, match="not a tar file"):
        unpack_layers([(tmp_path / "l.gz", "application/json")], tmp_path / "x")


@given(st.binary(max_size=2000))
def test_any_bytes_are_a_layer_or_a_bad_image(content: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "l"
        path.write_bytes(content)
        for kind in (LAYER_TAR, LAYER_TAR_GZIP):
            try:
                unpack_layers([(path, kind)], Path(folder) / "in")
            except BadImage as error:
                assert "l is not a readable tar file" in str(error)
