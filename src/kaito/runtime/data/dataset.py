"""The canonical data set: `train.arrow`, `eval.arrow` where rows are held out, one schema for every shape.

Written by the `data` step, read by `tune`. Arrow's file format, so that reading is a memory map.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc

from kaito.runtime.data.rows import Example, Message

MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string()), ("extra", pa.string())])
SCHEMA = pa.schema(
    [
        ("kind", pa.string()),  # chat, pair, text
        ("messages", pa.list_(MESSAGE)),
        ("tools", pa.string()),  # JSON, or empty
        ("prompt", pa.string()),
        ("completion", pa.string()),
        ("text", pa.string()),
        ("file", pa.string()),  # where the row came from
        ("line", pa.int64()),
    ]
)
BATCH = 1000  # rows
TRAIN, EVAL = "train.arrow", "eval.arrow"


@dataclass(frozen=True)
class Placed:
    """An Example and where it came from."""

    example: Example
    file: str
    line: int


class DatasetWriter:
    """Writes rows as they come, in constant memory; a context manager."""

    def __init__(self, path: Path) -> None:
        self._sink = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_file(self._sink, SCHEMA)
        self._pending: list[dict[str, Any]] = []
        self.rows = 0

    def add(self, placed: Placed) -> None:
        self._pending.append(_encode(placed))
        self.rows += 1
        if len(self._pending) >= BATCH:
            self._flush()

    def _flush(self) -> None:
        if self._pending:
            self._writer.write_batch(pa.RecordBatch.from_pylist(self._pending, SCHEMA))
            self._pending = []

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        self._flush()
        self._writer.close()
        self._sink.close()


def read_dataset(path: Path) -> Iterator[Placed]:
    """The rows of a canonical file, in order."""
    with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
        for index in range(reader.num_record_batches):
            for row in reader.get_batch(index).to_pylist():
                yield _decode(row)


@dataclass(frozen=True)
class Split:
    """How many rows each side has, and how many of the held-out ones are trained on too."""

    train: int
    held: int
    leaked: int


def write_split(every: Path, folder: Path, train_part: float, seed: int) -> Split:
    """Part the rows of `every` into train and eval by `seed`.

    At least one row stays on each side where `train_part` is under 1 and there are two rows. Rows that occur more than
    once are trained on: held out, they would be asked for what was learnt by heart.
    """
    with pa.memory_map(str(every)) as source, pa.ipc.open_file(source) as reader:
        table = reader.read_all()
        keys = [_key(row) for batch in table.to_batches() for row in batch.to_pylist()]
        held = eval_rows(keys, train_part, seed)
        chosen = set(held)
        train = [index for index in range(table.num_rows) if index not in chosen]
        _write_table(table.take(train), folder / TRAIN)
        (folder / EVAL).unlink(missing_ok=True)
        if held:
            _write_table(table.take(held), folder / EVAL)
    trained = {keys[index] for index in train}
    return Split(len(train), len(held), sum(keys[index] in trained for index in held))


def eval_rows(keys: Sequence[bytes], train_part: float, seed: int) -> list[int]:
    """The indexes that are held out, of rows with these contents; only where none is unique, of all."""
    rows = len(keys)
    if train_part >= 1 or rows < 2:
        return []
    count = min(rows - 1, max(1, round(rows * (1 - train_part))))
    times = Counter(keys)
    pool = [index for index, key in enumerate(keys) if times[key] == 1] or list(range(rows))
    return sorted(random.Random(seed).sample(pool, min(count, len(pool))))  # noqa: S311 - a split, not a secret


def _key(row: dict[str, Any]) -> bytes:
    content = json.dumps([row[name] for name in SCHEMA.names[:6]], ensure_ascii=False)
    return hashlib.blake2b(content.encode(), digest_size=16).digest()


def content_digest(examples: Iterable[Placed]) -> str:
    """One digest of all rows' content, wherever they came from: the data set's name in the report."""
    digest = hashlib.sha256()
    for placed in examples:
        row = _encode(placed)
        digest.update(json.dumps([row[name] for name in SCHEMA.names[:6]], ensure_ascii=False).encode())
    return f"sha256:{digest.hexdigest()}"


def _write_table(table: Any, path: Path) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
        writer.write_table(table, max_chunksize=BATCH)


def _encode(placed: Placed) -> dict[str, Any]:
    example = placed.example
    return {
        "kind": example.kind,
        "messages": [
            {
                "role": one.role,
                "content": one.content,
                "extra": json.dumps(dict(one.extra), ensure_ascii=False, default=str) if one.extra else "",
            }
            for one in example.messages
        ],
        "tools": example.tools,
        "prompt": example.prompt,
        "completion": example.completion,
        "text": example.text,
        "file": placed.file,
        "line": placed.line,
    }


def _decode(row: dict[str, Any]) -> Placed:
    messages = tuple(
        Message(one["role"], one["content"], json.loads(one["extra"]) if one["extra"] else {})
        for one in row["messages"] or ()
    )
    example = Example(row["kind"], messages, row["tools"], row["prompt"], row["completion"], row["text"])
    return Placed(example, row["file"], row["line"])


def decode_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as a chat template takes them: the arguments of tool calls as objects, which OpenAI keeps as JSON."""
    return [{"role": one.role, "content": one.content, **_with_arguments(one.extra)} for one in messages]


def _with_arguments(extra: Mapping[str, Any]) -> Mapping[str, Any]:
    calls = extra.get("tool_calls")
    if not isinstance(calls, list):
        return extra
    return {**extra, "tool_calls": [_decode_call(call) for call in calls]}


def _decode_call(call: Any) -> Any:
    function = call.get("function") if isinstance(call, dict) else None
    arguments = function.get("arguments") if isinstance(function, dict) else None
    if not isinstance(arguments, str):
        return call
    try:
        decoded = json.loads(arguments)
    except ValueError:
        return call
    if not isinstance(function, dict) or not isinstance(decoded, dict):
        return call
    return {**call, "function": {**function, "arguments": decoded}}
