"""The one user of the local registry: made once, kept in its folder, written out as a docker config.json."""

from __future__ import annotations

import base64
import hmac
import json
import secrets
from dataclasses import dataclass
from pathlib import Path

FILE = "credentials.json"
USERNAME = "kaito"


@dataclass(frozen=True)
class RegistryCredentials:
    username: str
    password: str

    def __repr__(self) -> str:
        return f"RegistryCredentials({self.username!r}, ...)"

    def accepts(self, authorization: str) -> bool:
        """Whether an Authorization header carries this user and password; in constant time."""
        scheme, _, value = authorization.partition(" ")
        expected = base64.b64encode(f"{self.username}:{self.password}".encode())
        return scheme.lower() == "basic" and hmac.compare_digest(value.strip().encode(), expected)

    def docker_config(self, registry: str) -> dict[str, object]:
        auth = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
        return {"auths": {registry: {"username": self.username, "password": self.password, "auth": auth}}}


def make_credentials(root: Path) -> RegistryCredentials:
    """The credentials kept in `root`, made on the first call. Idempotent."""
    root.mkdir(parents=True, exist_ok=True)
    path = root / FILE
    try:
        kept = json.loads(path.read_bytes())
        return RegistryCredentials(str(kept["username"]), str(kept["password"]))
    except FileNotFoundError:
        made = RegistryCredentials(USERNAME, secrets.token_urlsafe(24))
        write_private(path, json.dumps({"username": made.username, "password": made.password}))
        return made


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner reads (0600), all of it or nothing."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    beside.touch(mode=0o600)
    beside.write_text(text + "\n", encoding="utf-8")
    beside.replace(path)
