"""The doctor's verdict on good, odd and broken files; and that nothing makes it fall over."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaito.runtime.data.dataset import DatasetWriter, Placed, read_dataset
from kaito.runtime.data.doctor import Findings, doctor, examine_file, percentiles, why_unusable
from kaito.runtime.data.rows import Example, Unusable
from kaito.runtime.data.shapes import Columns, parse_example
from tests.runtime.data.corpus import CHAT, Case, cases, lines

CASES = cases()


def test_the_corpus_is_large() -> None:
    assert len(CASES) >= 100
    assert len({case.id for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_verdict(case: Case, tmp_path: Path) -> None:
    path = tmp_path / case.name
    path.write_bytes(case.content)
    findings = doctor([path])
    assert dict(findings.kinds) == case.kinds, findings.as_text()
    assert findings.rejected == case.rejected, findings.as_text()
    if case.why:
        assert any(case.why in one.why for one in findings.rejections), findings.as_text()
    assert all(one.file == case.name for one in findings.rejections)
    json.dumps(findings.as_dict())


def test_rejections_name_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(CHAT, "", {"foo": 1}, "{"))
    findings = doctor([tmp_path / "a.jsonl"])
    assert [(one.line, one.why[:14]) for one in findings.rejections] == [(3, "no usable colu"), (4, "not JSON: Inpu")]
    message, hint = why_unusable(findings)
    assert "a.jsonl:3: no usable column among foo" in message
    assert "prompt and completion" in hint


def test_csv_lines_count_the_lines_inside_cells(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'prompt,completion\n"one\ntwo",b\nc\n')
    assert [one.line for one in doctor([tmp_path / "a.csv"]).rejections] == [4]


def test_duplicates_and_leakage() -> None:
    findings = Findings()
    one, two = Example("text", text="a"), Example("text", text="b")
    assert findings.accept(one, "f", 1)
    assert not findings.accept(one, "f", 2)
    assert findings.accept(two, "f", 3)
    assert findings.accept(one, "f", 4, "eval")
    assert (findings.duplicates, findings.leaked, findings.usable) == (1, 1, 4)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("my key is AKIAIOSFODNN7EXAMPLE", "AWS access key"),
        ("-----BEGIN RSA PRIVATE KEY-----", "private key"),
        ("write to jane.doe@example.com", "e-mail address"),
        ("card 4111 1111 1111 1111", "payment card"),
        ("hf_" + "a" * 34, "Hugging Face token"),
        ("order 4111 1111 1111 1112", None),
        ("nothing here", None),
    ],
)
def test_likely_secrets_are_warned_of_and_never_shown(text: str, what: str | None) -> None:
    findings = Findings()
    findings.accept(Example("text", text=text), "f", 1)
    assert [one["what"] for one in findings.warnings] == ([what] if what else [])
    assert text not in json.dumps(findings.as_dict()) or what is None


def test_lengths_in_tokens_say_what_truncation_cuts() -> None:
    findings = Findings(count_tokens=lambda text: len(text.split()), max_length=3)
    for length in (1, 3, 5):
        findings.accept(Example("text", text=" ".join(["w"] * length)), "f", length)
    report = findings.as_dict()["length"]
    assert report["unit"] == "tokens"
    assert report["truncatedRows"] == 1
    assert report["truncatedTokens"] == 2


@given(st.lists(st.integers(0, 10_000), min_size=1))
def test_percentiles_are_ordered_and_end_at_the_largest(values: list[int]) -> None:
    found = list(percentiles(values).values())
    assert found == sorted(found)
    assert found[-1] == max(values)


@pytest.mark.parametrize(
    ("columns", "row", "kind"),
    [
        (Columns(messages="talk"), {"talk": CHAT["messages"], "text": "x"}, "chat"),
        (Columns(context="q", response="a"), {"q": "1", "a": "2"}, "pair"),
        (Columns(context="q"), {"q": "1", "text": "2"}, "pair"),
        (Columns(response="body"), {"body": "2", "text": "x"}, "text"),
    ],
)
def test_named_columns_win(columns: Columns, row: dict[str, object], kind: str) -> None:
    assert parse_example(row, columns).kind == kind


def test_a_named_column_that_is_not_there() -> None:
    with pytest.raises(Unusable, match="'talk' that DatasetConfig names is not among text"):
        parse_example({"text": "a"}, Columns(messages="talk"))


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda c: st.lists(c, max_size=3) | st.dictionaries(st.sampled_from(["role", "content", "from", "value", "x"]), c),
    max_leaves=8,
)
names = st.sampled_from(["messages", "conversations", "prompt", "completion", "instruction", "output", "text", "tools"])


@given(st.dictionaries(names | st.text(max_size=5), anything, max_size=4) | anything)
def test_any_row_is_an_example_or_unusable(row: object) -> None:
    try:
        example = parse_example(row)
    except Unusable as error:
        assert str(error)
    else:
        assert example.kind in ("chat", "pair", "text")


@settings(max_examples=150)
@given(st.sampled_from(CASES), st.integers(0, 2**32), st.binary(max_size=6), st.sampled_from(["a", "a.csv", "a.txt"]))
def test_any_file_ends_in_findings_and_rows_that_can_be_kept(case: Case, place: int, change: bytes, name: str) -> None:
    content = bytearray(case.content)
    start = place % (len(content) + 1)
    content[start : start + len(change)] = change
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        findings, accepted = Findings(), []
        examine_file(path, name, findings, None, lambda *placed: accepted.append(Placed(*placed)))
        with DatasetWriter(path.with_name("rows")) as writer:
            for placed in accepted:
                writer.add(placed)
        assert list(read_dataset(path.with_name("rows"))) == accepted
    assert findings.usable == len(accepted)
    json.dumps(findings.as_dict())


@pytest.mark.parametrize(
    "line",
    [
        b'{"text": "\\ud83d", "n": NaN}',
        b'{"text": NaN, "n": ' + b"[" * 50_000,
    ],
    ids=["half a surrogate", "too deep"],
)
def test_nan_beside_what_is_broken_is_a_rejected_row(line: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "fine"}\n' + line)
    findings = doctor([tmp_path / "a.jsonl"])
    assert (findings.usable, findings.rejected) == (1, 1)
    assert "not JSON" in str(findings.rejections[0])
