"""`kaito doctor`, as a person runs it on files of every kind."""

import json
import subprocess
import sys
from pathlib import Path

from tests.cli.test_commands import kaito

CHAT = {"messages": [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Hi."}]}


def write_rows(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_usable_files_of_several_kinds(tmp_path: Path) -> None:
    chats = write_rows(tmp_path / "chats.jsonl", CHAT, CHAT, {"messages": []})
    table = tmp_path / "pairs.csv"
    table.write_text("prompt,completion\nWho?,me@example.com\n")
    done = kaito("doctor", str(chats), str(table))
    assert done.returncode == 0, done.stderr
    for words in ("3 usable rows (2 chat, 1 pair)", "1 rejected rows", "chats.jsonl", "1 duplicates", "e-mail address"):
        assert words in done.stdout
    report = json.loads(kaito("doctor", str(tmp_path), "-o", "json").stdout)
    assert (report["rows"], report["rejected"], report["duplicates"]) == (3, 1, 1)
    assert report["rejections"][0]["line"] == 3


def test_nothing_usable_ends_with_2_and_the_accepted_shapes(tmp_path: Path) -> None:
    done = kaito("doctor", str(write_rows(tmp_path / "sizes.jsonl", {"height": 1})))
    assert done.returncode == 2
    assert "height" in done.stdout
    assert "prompt and completion" in done.stderr
    report = kaito("doctor", str(tmp_path), "-o", "json")
    assert report.returncode == 2
    assert json.loads(report.stdout)["rows"] == 0


def test_the_columns_of_a_training_config_are_used(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", {"ask": "Who?", "say": "Me."})
    config = tmp_path / "training_config.yaml"
    config.write_text("training_config: {DatasetConfig: {context_column: ask, response_column: say}}")
    assert kaito("doctor", str(rows)).returncode == 2
    assert "1 usable rows (1 pair)" in kaito("doctor", str(rows), "--config", str(config)).stdout
    config.write_text("training_config: {DatasetConfig: {context_colum: ask}}")
    wrong = kaito("doctor", str(rows), "--config", str(config))
    assert wrong.returncode == 2
    assert "context_column" in wrong.stderr


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    for given in (tmp_path / "nothing.jsonl", tmp_path):
        done = kaito("doctor", str(given))
        assert done.returncode == 2
        assert str(given) in done.stderr
        assert "Traceback" not in done.stderr


def test_no_machine_learning_is_loaded(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", CHAT)
    program = (
        "import sys; from kaito.cli.commands.data_sets import doctor; from pathlib import Path;"
        "doctor([Path(sys.argv[1])]); print([m for m in ('torch', 'transformers', 'datasets') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program, str(rows)], capture_output=True, text=True, timeout=60)
    assert done.stdout.endswith("[]\n"), done.stderr


def test_a_tokenizer_counts_tokens_and_says_what_would_be_cut(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", {"text": "a"}, {"text": "the harbour " * 40})
    report = kaito("doctor", str(rows), "--tokenizer", "tiny-phi-3", "--max-length", "50", "-o", "json")
    length = json.loads(report.stdout)["length"]
    assert (length["unit"], length["p50"], length["truncatedRows"]) == ("tokens", 1, 1)
    assert length["truncatedTokens"] == length["p100"] - 50 > 0
    assert "length in tokens" in kaito("doctor", str(rows), "--tokenizer", "tiny-phi-3").stdout
    for wrong in ("absent", str(rows), str(tmp_path)):
        done = kaito("doctor", str(rows), "--tokenizer", wrong)
        assert done.returncode == 2
        assert "tokenizer" in done.stderr
        assert "Traceback" not in done.stderr
