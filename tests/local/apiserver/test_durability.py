"""kill -9 under concurrent writers: every acknowledged write is there afterwards, and none is half there."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import ssl
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
WRITERS = 4


class Server:
    """The API server as a process of its own."""

    def __init__(self, home: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kaito.local.apiserver", "--home", str(home), "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        if self.url:
            config = yaml.safe_load((home / "kubeconfig").read_text())
            self.headers = {"Authorization": f"Bearer {config['users'][0]['user']['token']}"}
            self._tls = ssl.create_default_context(cafile=str(home / "pki" / "ca.crt"))

    def connect(self) -> http.client.HTTPSConnection:
        where = urlsplit(self.url)
        assert where.hostname is not None
        return http.client.HTTPSConnection(where.hostname, where.port, timeout=10, context=self._tls)

    def request(
        self, connection: http.client.HTTPSConnection, method: str, path: str, body: Any = None
    ) -> tuple[int, Any]:
        headers = {**self.headers, "Content-Type": "application/json"}
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())

    def kill(self, number: int = signal.SIGKILL) -> None:
        os.kill(self.process.pid, number)
        self.process.wait(20)
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.process.stdout.close()
        self.process.stderr.close()


class Writer(threading.Thread):
    """Writes names of its own until the server dies, and remembers the last acknowledged state of each."""

    def __init__(self, server: Server, number: int, known: dict[str, str | None]) -> None:
        super().__init__()
        self.server = server
        self.number = number
        self.known = known
        self.unsure: dict[str, str | None] = {}
        self.acknowledged = 0

    def run(self) -> None:
        connection = self.server.connect()
        try:
            for step in range(1_000_000):
                self._write(connection, f"w{self.number}-{step % 5}", f"{self.acknowledged}-{step}")
        except (OSError, http.client.HTTPException):
            return  # killed
        finally:
            connection.close()

    def _write(self, connection: http.client.HTTPSConnection, name: str, value: str) -> None:
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"v": value}}
        there = self.known.get(name) is not None
        if there and value.endswith("3"):
            self.unsure = {name: None}
            code, _ = self.server.request(connection, "DELETE", f"{CONFIG_MAPS}/{name}")
            written = None
        elif there:
            self.unsure = {name: value}
            code, _ = self.server.request(connection, "PUT", f"{CONFIG_MAPS}/{name}", body)
            written = value
        else:
            self.unsure = {name: value}
            code, _ = self.server.request(connection, "POST", CONFIG_MAPS, body)
            written = value
        assert code in (200, 201), code
        self.known[name] = written
        self.unsure = {}
        self.acknowledged += 1


def rounds(home: Path, count: int, seed: int) -> int:
    """Kills the server `count` times; the number of acknowledged writes that were checked."""
    chance = random.Random(seed)
    known: list[dict[str, str | None]] = [{} for _ in range(WRITERS)]
    checked = 0
    version = 0
    for _ in range(count):
        server = Server(home)
        version = verify(server, known, version)
        writers = [Writer(server, number, known[number]) for number in range(WRITERS)]
        for writer in writers:
            writer.start()
        threading.Event().wait(chance.uniform(0.02, 0.25))
        server.kill()
        for writer in writers:
            writer.join()
        for number, writer in enumerate(writers):
            checked += writer.acknowledged
            known[number] = {**writer.known, **{name: f"?{value}" for name, value in writer.unsure.items()}}
    server = Server(home)
    verify(server, known, version)
    server.kill(signal.SIGTERM)
    return checked


def verify(server: Server, known: list[dict[str, str | None]], version: int) -> int:
    """The list holds what was acknowledged; of a write that got no answer, either state is right."""
    connection = server.connect()
    _, listed = server.request(connection, "GET", CONFIG_MAPS)
    connection.close()
    found = {item["metadata"]["name"]: item["data"]["v"] for item in listed["items"]}
    for names in known:
        for name, value in list(names.items()):
            if value is not None and value.startswith("?"):
                names[name] = found.get(name)  # from now on it is known
            else:
                assert found.get(name) == value, name
    assert int(listed["metadata"]["resourceVersion"]) >= version
    return int(listed["metadata"]["resourceVersion"])


def test_acknowledged_writes_survive_kill_9(tmp_path: Path) -> None:
    assert rounds(tmp_path / "home", 3, seed=1) > 0


@pytest.mark.soak
def test_acknowledged_writes_survive_200_kills(tmp_path: Path) -> None:
    assert rounds(tmp_path / "home", 200, seed=2) > 1000


def test_a_second_server_on_the_folder_is_told_who_has_it(tmp_path: Path) -> None:
    first = Server(tmp_path / "home")
    second = subprocess.run(
        [sys.executable, "-m", "kaito.local.apiserver", "--home", str(tmp_path / "home"), "--port", "0"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    first.kill(signal.SIGTERM)
    assert second.returncode == 1
    assert f"is in use by another control plane (pid {first.process.pid})" in second.stderr


def test_private_files_are_private(tmp_path: Path) -> None:
    home = tmp_path / "home"
    server = Server(home)
    server.kill(signal.SIGTERM)
    assert oct(home.stat().st_mode & 0o777) == "0o700"
    for name in ("kubeconfig", "pki/server.key", "pki/token", "pki/service-account.key", "lock"):
        assert oct((home / name).stat().st_mode & 0o777) == "0o600", name
