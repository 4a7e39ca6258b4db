"""What is wrong, and what is odd, with a data set: the findings that the report holds and `kaito doctor` prints.

Pure but for reading the files it is given: nothing is fetched, nothing is written, no machine-learning library is
loaded. Lengths are in tokens where the caller brings a tokenizer's count, else in characters.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kaito.runtime.data.readers import read_file
from kaito.runtime.data.rows import Example, Rejection, Unusable
from kaito.runtime.data.shapes import ACCEPTED, Columns, parse_example

KEPT_REJECTIONS = 1000
KEPT_WARNINGS = 100
PERCENTILES = (50, 90, 95, 99, 100)

SUSPICIOUS = {
    "private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "AWS access key": re.compile(r"\bAKIA[0-9A-Z]{16}\b"),
    "GitHub token": re.compile(r"\bgh[pousr]_[A-Za-z0-9]{36}\b"),
    "Hugging Face token": re.compile(r"\bhf_[A-Za-z0-9]{34}\b"),
    "API key": re.compile(r"\bsk-[A-Za-z0-9_-]{32,}\b"),
    "e-mail address": re.compile(r"\b[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}\b"),
    "payment card": re.compile(r"\b(?:\d[ -]?){13,19}\b"),
}

CountTokens = Callable[[str], int]


@dataclass
class Findings:
    """Fed row by row; `as_dict` is the report's `data` part and `as_text` the same for people."""

    count_tokens: CountTokens | None = None
    max_length: int | None = None
    kinds: Counter[str] = field(default_factory=Counter)
    rejections: list[Rejection] = field(default_factory=list)
    rejected: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    leaked: int = 0
    lengths: list[int] = field(default_factory=list)
    warnings: list[dict[str, Any]] = field(default_factory=list)
    warned: Counter[str] = field(default_factory=Counter)
    files: Counter[str] = field(default_factory=Counter)
    _seen: dict[bytes, str] = field(default_factory=dict)

    @property
    def usable(self) -> int:
        return self.kinds.total()

    def accept(self, example: Example, file: str, line: int, part: str = "train") -> bool:
        """Count an example; `part` is `train` or `eval`. False when the same content was seen in that part before."""
        text = plain_text(example)
        key = hashlib.blake2b(f"{example.kind}\0{text}".encode(errors="replace"), digest_size=16).digest()
        before = self._seen.get(key)
        self._seen.setdefault(key, part)
        self.kinds[example.kind] += 1
        self.files[file] += 1
        self.lengths.append(self.count_tokens(text) if self.count_tokens else len(text))
        self._look_for_secrets(text, file, line)
        self.duplicates += before == part
        self.leaked += before is not None and before != part
        return before != part

    def reject(self, rejection: Rejection) -> None:
        self.rejected += 1
        self.files[rejection.file] += 0
        self.reasons[re.sub(r"\d+|'[^']*'", "…", rejection.why)] += 1
        if len(self.rejections) < KEPT_REJECTIONS:
            self.rejections.append(rejection)

    def _look_for_secrets(self, text: str, file: str, line: int) -> None:
        for what, pattern in SUSPICIOUS.items():
            found = pattern.search(text)
            if found is None or (what == "payment card" and not _luhn(found[0])):
                continue
            self.warned[what] += 1
            if len(self.warnings) < KEPT_WARNINGS:
                self.warnings.append({"file": file, "line": line, "what": what})  # never the value itself

    def as_dict(self) -> dict[str, Any]:
        unit = "tokens" if self.count_tokens else "characters"
        return {
            "rows": self.usable,
            "kinds": dict(sorted(self.kinds.items())),
            "files": dict(sorted(self.files.items())),
            "rejected": self.rejected,
            "rejectedBy": dict(self.reasons.most_common(20)),
            "rejections": [one.as_dict() for one in self.rejections],
            "duplicates": self.duplicates,
            "leakedIntoEval": self.leaked,
            "length": {"unit": unit, **percentiles(self.lengths), **self._truncation()},
            "suspicious": dict(sorted(self.warned.items())),
            "warnings": self.warnings,
        }

    def _truncation(self) -> dict[str, int]:
        if self.max_length is None or self.count_tokens is None:
            return {}
        over = [length - self.max_length for length in self.lengths if length > self.max_length]
        return {"maxLength": self.max_length, "truncatedRows": len(over), "truncatedTokens": sum(over)}

    def as_text(self) -> str:
        report = self.as_dict()
        lines = [f"{self.usable} usable rows ({', '.join(f'{n} {k}' for k, n in report['kinds'].items()) or 'none'})"]
        lines.append(f"{self.rejected} rejected rows")
        lines += [f"  {one}" for one in self.rejections[:10]]
        length = {key: value for key, value in report["length"].items() if key != "unit"}
        if self.lengths:
            lines.append(f"length in {report['length']['unit']}: " + ", ".join(f"{k} {v}" for k, v in length.items()))
        if self.duplicates:
            lines.append(f"{self.duplicates} duplicates")
        if self.leaked:
            lines.append(f"{self.leaked} rows are both trained on and held out")
        lines += [
            f"warning: {count} rows hold what looks like a {what}" for what, count in report["suspicious"].items()
        ]
        return "\n".join(lines) + "\n"


def doctor(
    paths: Iterable[Path],
    columns: Columns | None = None,
    count_tokens: CountTokens | None = None,
    max_length: int | None = None,
) -> Findings:
    """Examine data files as the `data` step would read them. Raises nothing for what they hold."""
    findings = Findings(count_tokens, max_length)
    for path in paths:
        examine_file(path, path.name, findings, columns)
    return findings


def examine_file(
    path: Path,
    name: str,
    findings: Findings,
    columns: Columns | None = None,
    accepted: Callable[[Example, str, int], None] | None = None,
) -> None:
    """Read one file into `findings`; `accepted` gets each example with its file and line."""
    for row in read_file(path, name):
        if isinstance(row, Rejection):
            findings.reject(row)
            continue
        try:
            example = parse_example(row.value, columns)
        except Unusable as error:
            findings.reject(Rejection(row.file, row.line, str(error)))
            continue
        findings.accept(example, row.file, row.line)
        if accepted is not None:
            accepted(example, row.file, row.line)


def why_unusable(findings: Findings) -> tuple[str, str]:
    """Message and hint for a data set without one usable row: the first ten reasons and the accepted shapes."""
    reasons = "; ".join(str(one) for one in findings.rejections[:10]) or "the files hold no rows"
    return f"no usable row in the data: {reasons}", f"give rows with one of these: {ACCEPTED}"


def plain_text(example: Example) -> str:
    """All that the example says, for lengths, duplicates and the search for secrets."""
    if example.kind == "chat":
        return "\n".join(f"{one.role}: {one.content}" for one in example.messages)
    if example.kind == "pair":
        return f"{example.prompt}\n{example.completion}"
    return example.text


def percentiles(values: Sequence[int]) -> dict[str, int]:
    """Nearest-rank percentiles, by name: p50 .. p100."""
    ordered = sorted(values)
    return {f"p{p}": ordered[max(0, -(-len(ordered) * p // 100) - 1)] for p in PERCENTILES} if ordered else {}


def _luhn(text: str) -> bool:
    digits = [int(one) for one in text if one.isdigit()][::-1]
    doubled = [sum(divmod(2 * one, 10)) if index % 2 else one for index, one in enumerate(digits)]
    return 13 <= len(digits) <= 19 and sum(doubled) % 10 == 0 and len(set(digits)) > 1
