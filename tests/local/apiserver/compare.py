"""Two servers' answers to one request, made comparable: what no two servers share becomes a placeholder."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from tests.local.apiserver.requests.asks import Ask
from tests.support.cluster import Answer, Cluster
from tests.support.real_cluster import RealCluster

ABSENT = object()
PLACEHOLDERS = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"), "<uid>"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"), "<time>"),
    (re.compile(r"\b(127\.96|10\.0)\.\d+\.\d+\b"), "<address>"),
    (re.compile(r"^\d+[smhd]$"), "<age>"),
    (re.compile(r"in record \(\d+\)"), "in record (<version>)"),
)
VERSIONS = {"resourceVersion": "<version>", "continue": "<token>"}
# No service accounts are made where no controller manager runs, so envtest leaves their admission out. Descriptions of
# columns are prose.
LEFT_OUT = ("*.serviceAccount", "*.serviceAccountName", "*columnDefinitions.*.description", "*.managedFields.*.time")


def send(cluster: Cluster | RealCluster, ask: Ask, names: dict[str, str]) -> Answer:
    """Sends the request; what it keeps of the answer is added to `names`."""
    headers = {"Accept": ask.accept}
    body = None
    if ask.body is not None:
        headers["Content-Type"] = ask.media
        body = fill(ask.body, names)
    answer = cluster.request(ask.method, fill(ask.path, names), body, headers)
    for name, path in ask.keep.items():
        value = find(document(answer), path)
        assert value is not ABSENT, f"{path} of {ask.method} {ask.path}: {answer.body[:500]!r}"
        names[name] = str(value)
    return answer


def document(answer: Answer) -> Any:
    """The answer as JSON, a watch's as its events."""
    lines = answer.body.splitlines()
    if lines and lines[0].startswith(b'{"type":"'):
        return {"events": [json.loads(line) for line in lines]}
    try:
        return json.loads(answer.body)
    except ValueError:
        return {"text": answer.body.decode(errors="replace")}


def check(answer: Answer, ask: Ask, names: dict[str, str], *, real: bool = False) -> None:
    code = (ask.real_code or ask.code) if real else ask.code
    told = f"{ask.method} {ask.path} answered {answer.code}: {answer.body[:1500].decode(errors='replace')}"
    assert answer.code == code, told
    got = document(answer)
    if answer.code >= 400 and "text" not in got:
        assert (got["kind"], got["status"], got["code"]) == ("Status", "Failure", code), told
    for path, wanted in ask.want.items():
        value = find(got, path)
        if isinstance(wanted, str) and wanted.endswith("?"):
            continue  # differs from server to server; that it answers is the point
        if wanted is None:
            assert value in (ABSENT, None), f"{path} of {told}"
        else:
            assert value == json.loads(fill(json.dumps(wanted), names)), f"{path} of {told}"


def fill(value: Any, names: dict[str, str]) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    for name, known in names.items():
        text = text.replace("{" + name + "}", known)
    return text


def find(value: Any, path: str) -> Any:
    """By a dotted path. Keys may hold dots themselves, so the longest key that is there wins."""
    parts = path.split(".")
    while parts:
        if isinstance(value, list):
            position = int(parts.pop(0))
            value = value[position] if position < len(value) else ABSENT
        elif isinstance(value, dict):
            for size in range(len(parts), 0, -1):
                if ".".join(parts[:size]) in value:
                    value = value[".".join(parts[:size])]
                    parts = parts[size:]
                    break
            else:
                return ABSENT
        else:
            return ABSENT
    return value


def comparable(answer: Answer, ask: Ask) -> list[Any]:
    """The code and the document, without what differs from server to server."""
    return [ask.code if ask.real_code else answer.code, _normal(document(answer), "", (*LEFT_OUT, *ask.differs))]


def _normal(value: Any, path: str, left_out: tuple[str, ...]) -> Any:
    if not path and _has_several_causes(value):
        # Found in the order in which Go walks a map, which is none.
        causes = sorted(value["details"]["causes"], key=json.dumps)
        value = {**value, "message": "", "details": {**value["details"], "causes": causes}}
    if isinstance(value, dict):
        return {
            key: VERSIONS[key] if key in VERSIONS and item else _normal(item, _join(path, key), left_out)
            for key, item in sorted(value.items())
            if not _is_left_out(_join(path, key), left_out)
        }
    if isinstance(value, list) and path.endswith("managedFields"):
        # Ordered by their times, which are whole seconds.
        return sorted((_normal(item, _join(path, "*"), left_out) for item in value), key=json.dumps)
    if isinstance(value, list):
        return [_normal(item, _join(path, "*"), left_out) for item in value]
    if isinstance(value, str):
        for pattern, placeholder in PLACEHOLDERS:
            value = pattern.sub(placeholder, value)
    return value


def _has_several_causes(value: Any) -> bool:
    details = value.get("details") if isinstance(value, dict) else None
    return isinstance(details, dict) and len(details.get("causes") or ()) > 1


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _is_left_out(path: str, left_out: tuple[str, ...]) -> bool:
    return any(path.endswith(one[1:]) if one.startswith("*") else path == one for one in left_out)


def differences(ours: Any, theirs: Any, path: str = "") -> Iterator[str]:
    """What differs, a line each."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in sorted({*ours, *theirs}):
            if key not in ours:
                yield f"{path}.{key} is missing: {json.dumps(theirs[key])[:300]}"
            elif key not in theirs:
                yield f"{path}.{key} is too much: {json.dumps(ours[key])[:300]}"
            else:
                yield from differences(ours[key], theirs[key], f"{path}.{key}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            yield from differences(one, other, f"{path}[{index}]")
    elif ours != theirs:
        yield f"{path} is {json.dumps(ours)[:400]}, but should be {json.dumps(theirs)[:400]}"
