"""What an API server is told at its start."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from kaito.local.apiserver.call import User
from kaito.local.apiserver.rbac import Attributes

MIB = 1024 * 1024


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class ServerConfig:
    home: Path
    """The data folder: `state.db`, `pki/`, `kubeconfig`, `lock`."""
    port: int = 6443
    """0 picks a free one."""
    host: str = "127.0.0.1"
    service_network: str = "127.96.0.0/16"
    history: int = 10_000
    """Changes kept for watches that resume."""
    watch_buffer: int = 2_000
    """Events that a watcher may lag behind before its connection is cut."""
    bookmark_seconds: float = 60.0
    watch_seconds: float = 1800.0
    """A watch without timeoutSeconds ends after this to twice this, so that clients do not all come back at once."""
    body_limit: int = 3 * MIB
    """Bytes of a request's body, as kube-apiserver has it."""
    clock: Callable[[], datetime] = utc_now
    audit: Callable[[User, Attributes, bool], None] | None = None
    """Told of every request that must be authorized: who, what, and whether it was allowed."""
    random_hex: Callable[[int], str] = secrets.token_hex
    """Randomness of uids, generated names and tokens: bytes wanted -> hex text."""
