"""Rows out of files whose names cannot be trusted: the content says what a file is.

JSONL, JSON, CSV, TSV, plain text, Parquet, Arrow (file and stream), each also under gzip or zstd. A row that cannot be
read becomes a Rejection with its line; a file that cannot be read at all becomes one Rejection for the file.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import msgspec
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

from kaito.runtime.data.rows import RawRow, Rejection, Unusable
from kaito.runtime.data.shapes import known_columns

HEAD = 65536  # bytes looked at to recognise a file
MAX_JSON = 2 << 30  # bytes; a JSON document (not JSONL) is read whole
Rows = Iterator[RawRow | Rejection]

MAGIC = {b"PAR1": "parquet", b"ARROW1": "arrow", b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
FOREIGN = {
    b"PK\x03\x04": "a zip archive (or an Office document); unpack it first",
    b"BZh": "a bzip2 file; use gzip or zstd",
    b"\xfd7zXZ": "an xz file; use gzip or zstd",
    b"%PDF": "a PDF document; extract its text first",
    b"SQLite format 3": "an SQLite database; export its rows first",
    b"\x93NUMPY": "a NumPy array",
    b"\x89HDF": "an HDF5 file",
    b"Obj\x01": "an Avro file",
    b"ORC": "an ORC file",
    b"\x80\x04": "a Python pickle, which is never loaded because it can run code",
    b"\x80\x05": "a Python pickle, which is never loaded because it can run code",
    b"\xd0\xcf\x11\xe0": "an old Office document; export it as CSV",
}


def read_file(path: Path, name: str = "") -> Rows:
    """All rows of a file. Never raises for what the file holds: problems come out as Rejections."""
    shown = name or path.name
    try:
        kind, compression = recognise(path)
        yield from READERS[kind](path, shown, compression)
    except Unusable as error:
        yield Rejection(shown, 0, str(error))
    except MemoryError:  # mostly a damaged length that asks for terabytes
        yield Rejection(
            shown, 0, "the file asks for more memory than there is: it is damaged, or its rows are too large"
        )
    except UnicodeDecodeError:
        yield Rejection(shown, 0, "the file is not UTF-8 text; save it as UTF-8 (spreadsheets offer it when exporting)")
    except (pa.ArrowException, OSError, EOFError, UnicodeError) as error:
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, pa.ArrowException):
            raise  # the disk's trouble, not the file's
        yield Rejection(shown, 0, f"the file is damaged: {_first_line(error)}")


def recognise(path: Path) -> tuple[str, str]:
    """(jsonl | json | csv | tsv | text | parquet | arrow, gzip | zstd | ""). Raises Unusable."""
    compression = ""
    head = _head(path, "")
    kind = _magic(head)
    if kind in ("gzip", "zstd"):
        compression = kind
        head = _head(path, compression)
        kind = _magic(head)
        if kind in ("gzip", "zstd"):
            raise Unusable("the file is compressed twice")
    if kind:
        return kind, compression
    return _recognise_text(head, path.name), compression


def _recognise_text(head: bytes, name: str) -> str:
    if not head.strip():
        raise Unusable("the file is empty")
    for magic, what in FOREIGN.items():
        if head.startswith(magic):
            raise Unusable(f"the file is {what}")
    text = head.decode(_encoding(head), errors="replace").lstrip("\ufeff")
    start = text.lstrip()[:200]
    if re.match(r"(?i)<(!doctype html|html)", start):
        raise Unusable("the file is a web page, not data; use the link that downloads the file itself")
    if start.startswith("version https://git-lfs.github.com/spec/"):
        raise Unusable("the file is a Git LFS pointer, not the data that it points to")
    if "\x00" in text:
        raise Unusable("the file is binary and of no format known here")
    if start.startswith("<?xml"):
        raise Unusable("the file is XML; convert it to JSONL, CSV or Parquet")
    if start[:1] in "{[":
        return _json_kind(text)
    return _table_kind(text, name)


def _json_kind(text: str) -> str:
    """JSONL when the first line with anything on it is a whole JSON value and more follows, or it is an object."""
    first, _, rest = text.lstrip().partition("\n")
    try:
        value = msgspec.json.decode(first)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        # A broken first line with an object on the next is JSONL with a bad row, not one JSON document.
        following = rest.lstrip().partition("\n")[0]
        complete = following.startswith("{") and following.rstrip().endswith("}") and first.rstrip() not in ("{", "[")
        return "jsonl" if complete and first.startswith("{") else "json"
    if isinstance(value, list):
        return "jsonl" if rest.strip() or _is_conversation(value) else "json"
    if not rest.strip() and any(
        isinstance(part, list) and part and isinstance(part[0], dict) for part in value.values()
    ):
        return "jsonl" if known_columns(value) else "json"
    return "jsonl"


def _is_conversation(value: list[Any]) -> bool:
    """Whether a list is one chat rather than many rows."""
    return bool(value) and all(isinstance(one, dict) and ("role" in one or "from" in one) for one in value)


def _table_kind(text: str, name: str) -> str:
    bare = re.sub(r"\.(gz|zst|zstd)$", "", name.lower())
    header = text.partition("\n")[0]
    if bare.endswith((".tsv", ".tab")) or (
        "\t" in header and known_columns([one.strip().strip('"') for one in header.split("\t")])
    ):
        return "tsv"
    if bare.endswith(".csv") or known_columns([one.strip().strip('"') for one in re.split("[,;|]", header)]):
        return "csv"
    return "text"


# Text formats


def _read_jsonl(path: Path, name: str, compression: str) -> Rows:
    for number, line in enumerate(_lines(path, compression), 1):
        text = line.strip()
        if not text:
            continue
        try:
            yield RawRow(name, number, _decode(text))
        except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
            yield Rejection(name, number, f"not JSON: {_first_line(error)}")


_DECODER = msgspec.json.Decoder()
_NOT_A_NUMBER = re.compile(rb"[:,\[]\s*-?(?:NaN|Infinity)\b")


def _decode(text: bytes) -> Any:
    """JSON, and the NaN that pandas and Python write for an empty cell, which is read as null."""
    try:
        return _DECODER.decode(text)
    except msgspec.DecodeError:
        if not _NOT_A_NUMBER.search(text):
            raise
        try:
            return _DECODER.decode(msgspec.json.encode(json.loads(text, parse_constant=lambda name: None)))
        except (ValueError, OverflowError, RecursionError):  # broken in other ways too: half a surrogate, huge numbers
            pass
        raise


def _read_json(path: Path, name: str, compression: str) -> Rows:
    content = _whole(path, compression)
    try:
        value = _decode(content)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise Unusable(f"the file is not JSON: {_first_line(error)}") from error
    for number, row in enumerate(_records(value), 1):
        yield RawRow(name, number, row)


def _records(value: Any) -> list[Any]:
    """The list of rows in a JSON document: itself, or the only list of objects inside."""
    if isinstance(value, list):
        return [value] if _is_conversation(value) else value
    if isinstance(value, dict):
        if known_columns(value):
            return [value]
        lists = [part for part in value.values() if isinstance(part, list) and part and isinstance(part[0], dict)]
        if len(lists) == 1:
            return lists[0]
        columns = [part for part in value.values() if isinstance(part, list)]
        if columns and len(columns) == len(value) and len({len(part) for part in columns}) == 1:
            return [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)]
        return [value]
    raise Unusable("the file's JSON is neither a list of rows nor an object")


def _read_csv(path: Path, name: str, compression: str) -> Rows:
    yield from _read_table(path, name, compression, "")


def _read_tsv(path: Path, name: str, compression: str) -> Rows:
    yield from _read_table(path, name, compression, "\t")


def _read_table(path: Path, name: str, compression: str, delimiter: str) -> Rows:
    with io.TextIOWrapper(_open(path, compression), _encoding(_head(path, compression)), "strict", newline="") as file:
        first = file.readline().lstrip("\ufeff")
        delimiter = delimiter or max(",;|\t", key=first.count)
        header = [one.strip() for one in next(csv.reader([first], delimiter=delimiter), [])]
        if len(set(header)) != len(header):
            raise Unusable("two columns of the header have the same name")
        csv.field_size_limit(1 << 30)
        reader = csv.reader(file, delimiter=delimiter)
        line = 2
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Rejection(name, line, f"not CSV: {error}")
                line = reader.line_num + 2
                continue
            if len(cells) == len(header):
                yield RawRow(name, line, dict(zip(header, cells, strict=True)))
            elif any(cells):
                yield Rejection(name, line, f"{len(cells)} cells, but the header has {len(header)}")
            line = reader.line_num + 2


def _read_text(path: Path, name: str, compression: str) -> Rows:
    """Paragraphs, parted by blank lines; lines where the file has no blank line."""
    content = _whole(path, compression)
    try:
        text = content.decode(_encoding(content[:HEAD])).lstrip("\ufeff")
    except UnicodeDecodeError as error:
        raise Unusable(f"the file is not UTF-8 text (byte {error.start})") from error
    paragraphs = re.search(r"\n[ \t\r]*\n\s*\S", text.strip()) is not None
    pending: list[str] = []
    start = 1
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            if not pending:
                start = number
            pending.append(line)
        if pending and (not line.strip() or not paragraphs):
            yield RawRow(name, start, {"text": "\n".join(pending)})
            pending = []
    if pending:
        yield RawRow(name, start, {"text": "\n".join(pending)})


# Columnar formats


def _read_parquet(path: Path, name: str, compression: str) -> Rows:
    source: Any = pa.BufferReader(_whole(path, compression)) if compression else path
    with pq.ParquetFile(source) as file:
        yield from _batches(file.iter_batches(batch_size=1024), name)


def _read_arrow(path: Path, name: str, compression: str) -> Rows:
    source = pa.BufferReader(_whole(path, compression)) if compression else pa.memory_map(str(path))
    with source, pa.ipc.open_file(source) as reader:
        yield from _batches((reader.get_batch(i) for i in range(reader.num_record_batches)), name)


def _read_arrow_stream(path: Path, name: str, compression: str) -> Rows:
    with _open(path, compression) as source, pa.ipc.open_stream(source) as reader:
        yield from _batches(iter(reader), name)


def _batches(batches: Iterator[Any], name: str) -> Rows:
    line = 0
    for batch in batches:
        batch.validate(full=True)  # offsets of a damaged file would otherwise be believed, and read out of bounds
        for row in batch.to_pylist():
            line += 1
            yield RawRow(name, line, row)


Reader = Callable[[Path, str, str], Rows]
READERS: dict[str, Reader] = {
    "jsonl": _read_jsonl,
    "json": _read_json,
    "csv": _read_csv,
    "tsv": _read_tsv,
    "text": _read_text,
    "parquet": _read_parquet,
    "arrow": _read_arrow,
    "arrow-stream": _read_arrow_stream,
}


# Bytes


def _magic(head: bytes) -> str:
    for magic, kind in MAGIC.items():
        if head.startswith(magic):
            return kind
    # An Arrow stream begins with a continuation mark and the length of a schema message.
    if head.startswith(b"\xff\xff\xff\xff") and len(head) > 8 and int.from_bytes(head[4:8], "little") < 1 << 24:
        return "arrow-stream"
    return ""


def _open(path: Path, compression: str) -> IO[bytes]:
    if not compression:
        return path.open("rb")
    stream: IO[bytes] = pa.input_stream(str(path), compression=compression)
    return stream


def _head(path: Path, compression: str) -> bytes:
    with _open(path, compression) as file:
        return file.read(HEAD)


def _whole(path: Path, compression: str) -> bytes:
    with _open(path, compression) as file:
        content = file.read(MAX_JSON + 1)
    if len(content) > MAX_JSON:
        raise Unusable("the file is over 2 GiB and of a format that is read whole; use JSONL or Parquet")
    return content


def _lines(path: Path, compression: str) -> Iterator[bytes]:
    encoding = _encoding(_head(path, compression))
    if encoding.startswith("utf-16"):
        with io.TextIOWrapper(_open(path, compression), encoding) as text:
            for line in text:
                yield line.encode()
        return
    with io.BufferedReader(_open(path, compression)) as file:  # type: ignore[type-var]  # pyarrow's file is a raw one in all but name
        for index, raw in enumerate(file):
            yield raw.removeprefix(codecs.BOM_UTF8) if index == 0 else raw


def _encoding(head: bytes) -> str:
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    return "utf-8"


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
