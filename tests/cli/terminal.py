"""The command in this process, as in a terminal of 100 columns: what it prints, both streams in order, and its code."""

from __future__ import annotations

import io
import os
import re
import shlex
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

from kaito.cli.main import main

GOLDEN = Path(__file__).parent / "golden"
AGE = re.compile(r"(?:(?<![\w.-])(?:\d+[dhms]){1,2}(?![\w.-])|(?<= )AGE(?= )) *")


def run(line: str, environment: Mapping[str, str], *, stdin: str = "") -> tuple[str, int]:
    """Run `kaito ...`; the text has no ages, ports or paths of this run in it."""
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, write_through=True, encoding="utf-8")
    words = shlex.split(line)
    code = 0
    with (
        mock.patch.dict(os.environ, {**environment, "COLUMNS": "100", "TERM": "dumb"}),
        mock.patch.object(sys, "argv", words),
        mock.patch.object(sys, "stdin", io.StringIO(stdin)),
        redirect_stdout(out),
        redirect_stderr(out),
    ):
        try:
            main()
        except SystemExit as done:
            code = int(done.code or 0)
    return raw.getvalue().decode(), code


def normal(text: str, replaced: Mapping[str, str], *, ages: bool = True) -> str:
    """With `ages` those become `<age>`; `replaced` has what else differs from run to run."""
    for old, new in replaced.items():
        text = re.sub(old, new, text)
    lines = [AGE.sub(_age, line) if ages else line for line in text.splitlines()]
    return "\n".join(line.rstrip() for line in lines)


def _age(found: re.Match[str]) -> str:
    """Without the spaces behind it, whose number depends on the age."""
    return ("AGE" if found[0].startswith("AGE") else "<age>") + "  "


class Script:
    """A golden file: commands and what they print, as one would copy them from a terminal.

        $ kaito get workspace nope
        kaito: Error from server (NotFound): ...
        [1]

    With UPDATE_GOLDEN=1 it is written anew from what the commands print now.
    """

    def __init__(self, name: str) -> None:
        self._path = GOLDEN / f"{name}.txt"
        text = self._path.read_text() if self._path.exists() else ""
        blocks = re.split(r"^(?=\$ )", text, flags=re.MULTILINE)
        self.head = blocks[0]
        self.commands = [block.partition("\n")[0].removeprefix("$ ") for block in blocks[1:]]
        self._wanted = text

    def check(self, run_one: list[tuple[str, str, int]]) -> None:
        found = self.head + "".join(_block(*one) for one in run_one)
        if os.environ.get("UPDATE_GOLDEN"):
            self._path.write_text(found)
            return
        assert found == self._wanted, "a change on purpose? `make reference` writes it anew; then read the diff"


def _block(command: str, text: str, code: int) -> str:
    return f"$ {command}\n" + (f"{text}\n" if text else "") + (f"[{code}]\n" if code else "") + "\n"
