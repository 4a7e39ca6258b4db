"""Registries for tests: Debian's docker-registry with htpasswd, and where tools are looked for."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

USER, PASSWORD = "alice", "correct horse"

CONFIG = """
version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {root}/storage}}, delete: {{enabled: true}}}}
http: {{addr: 127.0.0.1:{port}, secret: test}}
{auth}
"""


def tool(name: str) -> str:
    """The path of a Debian tool; skips the test where it is missing, or fails it under KAITO_REQUIRE_TOOLS=1."""
    found = shutil.which(name)
    if found:
        return found
    if os.environ.get("KAITO_REQUIRE_TOOLS") == "1":
        pytest.fail(f"{name} is not installed, and KAITO_REQUIRE_TOOLS=1")
    pytest.skip(f"{name} is not installed")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def docker_registry(root: Path, auth: str | None = None) -> Iterator[str]:
    """Debian's docker-registry on loopback, with the user above unless `auth` says otherwise; yields host:port."""
    program = tool("docker-registry")
    if auth is None:
        hashed = subprocess.run(
            [tool("htpasswd"), "-Bbn", USER, PASSWORD], check=True, capture_output=True, text=True
        ).stdout
        (root / "htpasswd").write_text(hashed)
        auth = f"auth: {{htpasswd: {{realm: test, path: {root}/htpasswd}}}}"
    port = free_port()
    (root / "registry.yml").write_text(CONFIG.format(root=root, port=port, auth=auth))
    log = (root / "registry.log").open("wb")
    process = subprocess.Popen([program, "serve", str(root / "registry.yml")], stdout=log, stderr=log)
    try:
        _wait(f"http://127.0.0.1:{port}/v2/", process)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)
        log.close()


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except urllib.error.HTTPError as error:
            error.close()
            return  # any answer will do: 401 is one
        except OSError:
            time.sleep(0.05)
    raise AssertionError("docker-registry did not start")
