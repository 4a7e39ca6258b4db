"""Good, odd and broken data files, each with the doctor's verdict: how many rows are used, and what the words say.

Each case: a name for the file, its bytes, the rows that are used by kind, the rejected ones, and a text that one of the
rejections holds.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import pickle
import zipfile
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq


@dataclass(frozen=True)
class Case:
    id: str
    name: str
    content: bytes
    kinds: dict[str, int]
    rejected: int = 0
    why: str = ""


USER = {"role": "user", "content": "What is the capital of France?"}
ANSWER = {"role": "assistant", "content": "Paris."}
CHAT = {"messages": [USER, ANSWER]}
TABLE = pa.Table.from_pylist([CHAT, CHAT])


def lines(*rows: Any) -> bytes:
    return "\n".join(row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows).encode()


def parquet(table: Any, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def arrow(table: Any, stream: bool = False) -> bytes:
    sink = io.BytesIO()
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def zst(content: bytes) -> bytes:
    packed: bytes = pa.compress(content, codec="zstd", asbytes=True)
    return packed


def zipped(content: bytes) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("train.jsonl", content)
    return sink.getvalue()


def chat(*turns: tuple[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def cases() -> list[Case]:
    return [*good(), *odd(), *broken_rows(), *broken_files()]


def good() -> list[Case]:
    alpaca = {"instruction": "Add.", "input": "1 and 2", "output": "3"}
    share = {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}
    tools = {
        "messages": [
            USER,
            {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "content": "42", "tool_call_id": "1"},
            ANSWER,
        ],
        "tools": [{"type": "function", "function": {"name": "f"}}],
    }
    return [
        Case("jsonl chats", "a.jsonl", lines(CHAT, CHAT), {"chat": 2}),
        Case("jsonl named json", "a.json", lines(CHAT, CHAT), {"chat": 2}),
        Case("jsonl without a name", "data", lines(CHAT), {"chat": 1}),
        Case("json list", "a.json", json.dumps([CHAT, CHAT]).encode(), {"chat": 2}),
        Case("json list, indented", "a.json", json.dumps([CHAT], indent=2).encode(), {"chat": 1}),
        Case("json object with one list", "a.json", json.dumps({"version": 1, "rows": [CHAT]}).encode(), {"chat": 1}),
        Case("one chat, indented", "a.json", json.dumps(CHAT, indent=1).encode(), {"chat": 1}),
        Case("json of columns", "a.json", b'{"p": ["a", "b"], "prompt": ["x", "y"]}', {}, 1, "no usable column"),
        Case("parquet chats", "a.parquet", parquet(TABLE), {"chat": 2}),
        Case("parquet named csv", "a.csv", parquet(TABLE), {"chat": 2}),
        Case("parquet, zstd inside", "a.parquet", parquet(TABLE, compression="zstd"), {"chat": 2}),
        Case("parquet, row groups", "a.parquet", parquet(TABLE, row_group_size=1), {"chat": 2}),
        Case("arrow file", "a.arrow", arrow(TABLE), {"chat": 2}),
        Case("arrow stream", "a.arrow", arrow(TABLE, stream=True), {"chat": 2}),
        Case("gzip of jsonl", "a.jsonl.gz", gzip.compress(lines(CHAT)), {"chat": 1}),
        Case("gzip of parquet", "a.gz", gzip.compress(parquet(TABLE)), {"chat": 2}),
        Case("gzip of arrow", "a.gz", gzip.compress(arrow(TABLE)), {"chat": 2}),
        Case("zstd of jsonl", "a.jsonl.zst", zst(lines(CHAT)), {"chat": 1}),
        Case("zstd of csv", "a.csv.zst", zst(b"prompt,completion\na,b\n"), {"pair": 1}),
        Case("sharegpt", "a.jsonl", lines(share), {"chat": 1}),
        Case("tools", "a.jsonl", lines(tools), {"chat": 1}),
        Case("alpaca", "a.jsonl", lines(alpaca), {"chat": 1}),
        Case("pairs", "a.jsonl", lines({"prompt": "a", "completion": "b"}), {"pair": 1}),
        Case("pairs of messages", "a.jsonl", lines({"prompt": [USER], "completion": [ANSWER]}), {"chat": 1}),
        Case("questions", "a.jsonl", lines({"question": "a", "answer": "b"}), {"pair": 1}),
        Case("texts", "a.jsonl", lines({"text": "a"}, {"text": "b"}), {"text": 2}),
        Case("csv", "a.csv", b"prompt,completion\na,b\nc,d\n", {"pair": 2}),
        Case("csv without a name", "data", b"prompt,completion\na,b\n", {"pair": 1}),
        Case("csv with semicolons", "a.csv", b"instruction;output\na;b\n", {"chat": 1}),
        Case("tsv", "a.tsv", b"question\tanswer\na\tb\n", {"pair": 1}),
        Case("plain text of paragraphs", "a.txt", b"one\ntwo\n\nthree\n", {"text": 2}),
        Case("plain text of lines", "a.txt", b"one\ntwo\nthree\n", {"text": 3}),
    ]


def odd() -> list[Case]:
    quoted = b'prompt,completion\n"a, with ""quotes""","two\nlines"\nc,d\n'
    as_cell = json.dumps(CHAT["messages"]).replace('"', '""')
    mixed = lines(CHAT, {"text": "a"}, {"prompt": "a", "completion": "b"})
    parts = {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}, ANSWER]}
    return [
        Case("byte order mark", "a.jsonl", b"\xef\xbb\xbf" + lines(CHAT), {"chat": 1}),
        Case("byte order mark in csv", "a.csv", b"\xef\xbb\xbfprompt,completion\na,b\n", {"pair": 1}),
        Case("utf-16", "a.jsonl", lines(CHAT, CHAT).decode().encode("utf-16"), {"chat": 2}),
        Case("utf-16 csv", "a.csv", "prompt,completion\né,b\n".encode("utf-16"), {"pair": 1}),
        Case("windows line ends", "a.jsonl", lines(CHAT, CHAT).replace(b"\n", b"\r\n"), {"chat": 2}),
        Case("empty lines between", "a.jsonl", b"\n\n" + lines(CHAT, "", "", CHAT) + b"\n\n", {"chat": 2}),
        Case("no newline at the end", "a.csv", b"prompt,completion\na,b", {"pair": 1}),
        Case("quotes and newlines in cells", "a.csv", quoted, {"pair": 2}),
        Case("messages as a text", "a.csv", b'messages\n"' + as_cell.encode() + b'"\n', {"chat": 1}),
        Case("content in parts", "a.jsonl", lines(parts), {"chat": 1}),
        Case("capital names", "a.jsonl", lines({"Prompt": "a", "Completion": "b"}), {"pair": 1}),
        Case("emoji and zero bytes escaped", "a.jsonl", lines({"text": "a\u0000b 😀"}), {"text": 1}),
        Case("shapes mixed", "a.jsonl", mixed, {"chat": 1, "text": 1, "pair": 1}),
        Case("NaN of pandas", "a.jsonl", b'{"prompt": "a", "completion": "b", "input": NaN}', {"pair": 1}),
        Case("NaN as the text", "a.jsonl", b'{"text": NaN}\n{"text": "a"}', {"text": 1}, 1, "no usable column"),
        Case("NaN in a json list", "a.json", b'[{"text": "a", "score": NaN}]', {"text": 1}),
        Case("numbers as answers", "a.jsonl", lines({"question": "1+1", "answer": 2}), {"pair": 1}),
        Case("a list of messages a line", "a.jsonl", lines([USER, ANSWER]), {"chat": 1}),
        Case("system in its own column", "a.jsonl", lines({"system": "Be kind.", **CHAT}), {"chat": 1}),
    ]  # fmt: skip


def broken_rows() -> list[Case]:
    table = [
        ("no assistant", chat(("user", "a")), "nothing to learn"),
        ("assistant first", chat(("assistant", "a"), ("user", "b")), "not the user's"),
        ("user twice", chat(("user", "a"), ("user", "b"), ("assistant", "c")), "follow each other"),
        ("assistant twice", chat(("user", "a"), ("assistant", "b"), ("assistant", "c")), "follow each other"),
        ("late system", chat(("user", "a"), ("system", "b"), ("assistant", "c")), "after the first message"),
        ("unknown role", chat(("user", "a"), ("robot", "b")), "unknown role 'robot'"),
        ("no role", {"messages": [{"content": "a"}, ANSWER]}, "has no role"),
        ("empty content", chat(("user", " "), ("assistant", "b")), "message 1 is empty"),
        ("null content", chat(("user", None), ("assistant", "b")), "message 1 is empty, not text"),
        ("number as content", chat(("user", 3), ("assistant", "b")), "a number, not text"),
        ("image in content", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}, ANSWER]}, "images"),
        ("empty messages", {"messages": []}, "list of messages is empty"),
        ("messages an object", {"messages": {"role": "user"}}, "an object, not a list"),
        ("messages a broken text", {"messages": "[{"}, "not JSON"),
        ("message a text", {"messages": ["hello"]}, "message 1 is a text"),
        ("unknown columns", {"foo": 1, "bar": 2}, "no usable column among foo, bar"),
        ("prompt alone", {"prompt": "a"}, "no usable column"),
        ("empty completion", {"prompt": "a", "completion": ""}, "'completion' is empty"),
        ("output a list", {"instruction": "a", "output": ["b"]}, "'output' is a list"),
        ("text an object", {"text": {"a": 1}}, "'text' is an object"),
        ("text true", {"text": True}, "'text' is true or false"),
        ("row a number", 3, "the row is a number"),
        ("row null", None, "the row is empty"),
        ("row an empty object", {}, "no usable column"),
        ("tools no list", {**CHAT, "tools": {"a": 1}}, "'tools' is an object"),
        ("tools a broken text", {**CHAT, "tools": "{"}, "'tools' is a text that is not JSON"),
    ]  # fmt: skip
    return [Case(name, "a.jsonl", lines(CHAT, row), {"chat": 1}, 1, why) for name, row, why in table]


def broken_files() -> list[Case]:
    good_lines = lines(CHAT, CHAT)
    parquet_file = parquet(TABLE)
    deep = "[" * 100_000
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n"
    bad_first = b'{"text": }\n' + lines({"text": "a"})
    bad_utf8 = lines({"text": "a"}) + b'\n{"text": "\xff\xfe"}'
    uneven = b"prompt,completion\na\na,b\na,b,c\n"
    unknown = parquet(pa.table({"x": [1, 2]}))
    nulls = parquet(pa.table({"text": pa.array([None, "a"])}))
    return [
        Case("empty", "a.jsonl", b"", {}, 1, "empty"),
        Case("only spaces", "a.jsonl", b" \n \n", {}, 1, "empty"),
        Case("zip", "a.jsonl", zipped(good_lines), {}, 1, "zip archive"),
        Case("bzip2", "a.jsonl.bz2", bz2.compress(good_lines), {}, 1, "bzip2"),
        Case("pdf", "a.pdf", b"%PDF-1.7\n...", {}, 1, "PDF"),
        Case("pickle", "a.pkl", pickle.dumps([CHAT]), {}, 1, "pickle"),
        Case("sqlite", "a.db", b"SQLite format 3\x00" + bytes(100), {}, 1, "SQLite"),
        Case("web page", "a.parquet", b"<!DOCTYPE html><html><body>Sign in</body></html>", {}, 1, "web page"),
        Case("lfs pointer", "a.parquet", pointer, {}, 1, "LFS"),
        Case("xml", "a.xml", b"<?xml version='1.0'?><a/>", {}, 1, "XML"),
        Case("random bytes", "a.bin", bytes(range(256)) * 8, {}, 1, "binary"),
        Case("parquet cut off", "a.parquet", parquet_file[:-20], {}, 1, "damaged"),
        Case("parquet magic alone", "a.parquet", b"PAR1", {}, 1, "damaged"),
        Case("parquet footer broken", "a.parquet", parquet_file[:40] + bytes(30) + parquet_file[70:], {}, 1, ""),
        Case("arrow cut off", "a.arrow", arrow(TABLE)[:-30], {}, 1, "damaged"),
        Case("arrow stream cut off", "a.arrow", arrow(TABLE, stream=True)[:60], {}, 1, "damaged"),
        Case("gzip cut off", "a.gz", gzip.compress(good_lines * 100)[:-40], {}, 1, "damaged"),
        Case("gzip twice", "a.gz", gzip.compress(gzip.compress(good_lines)), {}, 1, "compressed twice"),
        Case("gzip of nothing", "a.gz", gzip.compress(b""), {}, 1, "empty"),
        Case("zstd cut off", "a.zst", zst(good_lines * 200)[:-10], {}, 1, "damaged"),
        Case("json cut off", "a.json", json.dumps([CHAT, CHAT])[:-20].encode(), {}, 1, "not JSON"),
        Case("json with a comma too many", "a.json", b'[{"text": "a"},]', {}, 1, "not JSON"),
        Case("json a number", "a.json", b"[1, 2]", {}, 2, "a number"),
        Case("json nested too deep", "a.json", deep.encode(), {}, 1, "not JSON"),
        Case("jsonl cut off", "a.jsonl", good_lines[:-10], {"chat": 1}, 1, "not JSON"),
        Case("jsonl with a bad line first", "a.jsonl", bad_first, {"text": 1}, 1, "not JSON"),
        Case("jsonl with single quotes", "a.jsonl", b"{'text': 'a'}\n{'text': 'b'}", {}, 2, "not JSON"),
        Case("jsonl with bad utf-8", "a.jsonl", bad_utf8, {"text": 1}, 1, "not JSON"),
        Case("csv with short and long rows", "a.csv", uneven, {"pair": 1}, 2, "the header has 2"),
        Case("csv without known columns", "a.csv", b"x,y\n1,2\n", {}, 1, "no usable column among x, y"),
        Case("csv with one name twice", "a.csv", b"text,text\na,b\n", {}, 1, "same name"),
        Case("csv of latin-1", "a.csv", b"prompt,completion\n\xe9,b\n", {}, 1, "save it as UTF-8"),
        Case("csv header alone", "a.csv", b"prompt,completion\n", {}, 0),
        Case("text of latin-1", "a.txt", b"caf\xe9", {}, 1, "not UTF-8"),
        Case("parquet without rows", "a.parquet", parquet(TABLE.slice(0, 0)), {}, 0),
        Case("parquet without known columns", "a.parquet", unknown, {}, 2, "no usable column among x"),
        Case("parquet of nulls", "a.parquet", nulls, {"text": 1}, 1, "no usable column"),
    ]  # fmt: skip
