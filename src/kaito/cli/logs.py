"""Logs of the long-running commands: one line an event, as JSON for collectors or as text for people."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Any

import msgspec

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class LineFormatter(logging.Formatter):
    """`extra=` fields become fields of the line; a traceback becomes the field `traceback`."""

    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        if self._as_json:
            head = {"time": moment, "level": record.levelname.lower(), "logger": record.name}
            return msgspec.json.encode({**head, "message": record.getMessage(), **fields}, enc_hook=str).decode()
        pairs = " ".join(f"{key}={value}" for key, value in fields.items())
        return f"{moment} {record.levelname:7} {record.name}: {record.getMessage()} {pairs}".rstrip()


def set_up_logs(level: str, *, as_json: bool) -> None:
    stream = logging.StreamHandler(sys.stderr)
    stream.setFormatter(LineFormatter(as_json=as_json))
    logging.basicConfig(level=level.upper(), handlers=[stream], force=True)
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    logging.getLogger("httpcore2").setLevel(logging.WARNING)
