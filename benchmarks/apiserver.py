"""The embedded API server under load: creates, status patches, lists of 5,000 Workspaces, watch fan-out, restart.

    python benchmarks/apiserver.py [--objects 5000] [--watchers 50] [--json FILE]

The server runs in a process of its own; clients are plain TLS connections of this one, so that the client costs little.
Times are seconds unless a name says otherwise. Aims on two cores: above 2,000 small writes a second, p99 watch latency
under 20 ms at 500 writes a second, a list of 5,000 in under 150 ms, start to ready under 1 s with 5,000 objects stored.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import yaml

from kaito.api.crds import workspace_crd

WORKSPACES = "/apis/kaito.sh/v1beta1/namespaces/default/workspaces"
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
CONNECTIONS = 32


class Connection:
    """HTTP/1.1 keep-alive over TLS, one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, token: str) -> None:
        self._reader = reader
        self._writer = writer
        self._head = f"Host: kaito\r\nAuthorization: Bearer {token}\r\nUser-Agent: bench/1\r\n"

    async def send(self, method: str, path: str, body: bytes = b"", media: str = "application/json") -> None:
        head = f"{method} {path} HTTP/1.1\r\n{self._head}Content-Type: {media}\r\nContent-Length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)
        await self._writer.drain()

    async def request(
        self, method: str, path: str, body: bytes = b"", media: str = "application/json"
    ) -> tuple[int, bytes]:
        await self.send(method, path, body, media)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        return int(head[9:12]), await self._reader.readexactly(int(length.split(b":")[1]))

    async def lines(self) -> Any:
        """The lines of a chunked answer, as they come."""
        await self._reader.readuntil(b"\r\n\r\n")
        buffer = b""
        while size := int(await self._reader.readline(), 16):
            buffer += await self._reader.readexactly(size)
            await self._reader.readexactly(2)
            *lines, buffer = buffer.split(b"\n")
            for line in lines:
                yield line

    def close(self) -> None:
        self._writer.close()


class Server:
    def __init__(self, home: Path) -> None:
        self.home = home
        started = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kaito.local.apiserver", "--home", str(home), "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout is not None
        self.url = urlsplit(self.process.stdout.readline().strip())
        self.seconds_to_ready = time.perf_counter() - started
        config = yaml.safe_load((home / "kubeconfig").read_text())
        self.token = config["users"][0]["user"]["token"]
        self._tls = ssl.create_default_context(cafile=str(home / "pki" / "ca.crt"))

    async def connect(self) -> Connection:
        reader, writer = await asyncio.open_connection(self.url.hostname, self.url.port, ssl=self._tls, limit=1 << 26)
        return Connection(reader, writer, self.token)

    @asynccontextmanager
    async def connections(self, count: int) -> Any:
        made = [await self.connect() for _ in range(count)]
        yield made
        for connection in made:
            connection.close()

    def memory_mib(self) -> float:
        return float(psutil.Process(self.process.pid).memory_info().rss / 2**20)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)
        assert self.process.stdout is not None
        self.process.stdout.close()


def workspace(name: str) -> bytes:
    manifest = {
        "apiVersion": "kaito.sh/v1beta1",
        "kind": "Workspace",
        "metadata": {"name": name, "labels": {"team": "bench"}},
        "resource": {"instanceType": "Standard_NC24ads_A100_v4", "labelSelector": {"matchLabels": {"apps": name}}},
        "inference": {"preset": {"name": "phi-3-mini-4k-instruct"}},
    }
    return json.dumps(manifest).encode()


def config_map(name: str, **data: str) -> bytes:
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}).encode()


def status_patch(number: int) -> bytes:
    condition = {
        "type": "WorkspaceReady",
        "status": "False",
        "reason": f"Reason{number}",
        "message": "waiting",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    return json.dumps({"status": {"conditions": [condition]}}).encode()


async def load(server: Server, count: int, work: Callable[[Connection, int], Awaitable[None]]) -> dict[str, float]:
    """`count` pieces of work over all connections: the rate and the latencies of the pieces."""
    numbers = iter(range(count))
    latencies: list[float] = []

    async def run(connection: Connection) -> None:
        for number in numbers:
            started = time.perf_counter()
            await work(connection, number)
            latencies.append(time.perf_counter() - started)

    async with server.connections(CONNECTIONS) as connections:
        started = time.perf_counter()
        await asyncio.gather(*(run(connection) for connection in connections))
        elapsed = time.perf_counter() - started
    return {"per_second": round(count / elapsed), **percentiles(latencies)}


def percentiles(seconds: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(seconds, n=100)
    return {"p50_ms": round(cuts[49] * 1e3, 2), "p99_ms": round(cuts[98] * 1e3, 2)}


async def expect(connection: Connection, code: int, *request: Any) -> bytes:
    got, body = await connection.request(*request)
    if got != code:
        raise SystemExit(f"{request[:2]} answered {got}: {body[:300]!r}")
    return body


async def watch_latency(server: Server, watchers: int, rate: int, seconds: float) -> dict[str, float]:
    """From the moment before a write is sent until each watcher has its event."""
    latencies: list[float] = []
    total = int(rate * seconds)
    sent: dict[str, float] = {}

    async def watch(connection: Connection) -> None:
        seen = 0
        async for line in connection.lines():
            name = json.loads(line)["object"]["metadata"]["name"]
            if name in sent:
                latencies.append(time.perf_counter() - sent[name])
                seen += 1
                if seen == total:
                    return

    async with server.connections(watchers) as readers, server.connections(8) as writers:
        for reader in readers:
            await reader.send("GET", f"{CONFIG_MAPS}?watch=1&resourceVersion=")
        tasks = [asyncio.create_task(watch(reader)) for reader in readers]
        await asyncio.sleep(1.0)  # every watch is open and has its first events
        free: asyncio.Queue[Connection] = asyncio.Queue()
        for writer in writers:
            free.put_nowait(writer)

        async def write(name: str) -> None:
            connection = await free.get()
            sent[name] = time.perf_counter()
            await expect(connection, 201, "POST", CONFIG_MAPS, config_map(name, n="1"))
            free.put_nowait(connection)

        start = time.perf_counter()
        writes = []
        for number in range(total):
            await asyncio.sleep(max(0.0, start + number / rate - time.perf_counter()))
            writes.append(asyncio.create_task(write(f"fan-{number}")))
        await asyncio.gather(*writes)
        elapsed = time.perf_counter() - start
        await asyncio.gather(*tasks)
    return {"writes_per_second": round(total / elapsed), "watchers": watchers, **percentiles(latencies)}


async def measure(home: Path, objects: int, watchers: int) -> dict[str, Any]:
    results: dict[str, Any] = {}
    server = Server(home)
    results["start_empty_seconds"] = round(server.seconds_to_ready, 2)
    async with server.connections(1) as (connection,):
        crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        await expect(connection, 201, "POST", crds, json.dumps(workspace_crd()).encode())

    async def create_config_map(connection: Connection, number: int) -> None:
        await expect(connection, 201, "POST", CONFIG_MAPS, config_map(f"cm-{number}", a="1"))

    async def create(connection: Connection, number: int) -> None:
        await expect(connection, 201, "POST", WORKSPACES, workspace(f"ws-{number}"))

    async def patch(connection: Connection, number: int) -> None:
        path = f"{WORKSPACES}/ws-{number % objects}/status"
        await expect(connection, 200, "PATCH", path, status_patch(number), "application/merge-patch+json")

    results["create_config_map"] = await load(server, 4000, create_config_map)
    results["create_workspace"] = await load(server, objects, create)
    results["patch_status"] = await load(server, objects, patch)
    async with server.connections(1) as (connection,):
        times = []
        for _ in range(10):
            started = time.perf_counter()
            body = await expect(connection, 200, "GET", WORKSPACES)
            times.append(time.perf_counter() - started)
        results["list"] = {"objects": objects, "mib": round(len(body) / 2**20, 1), **percentiles(times)}
    results["memory_mib"] = round(server.memory_mib())
    results["watch_at_500"] = await watch_latency(server, watchers, 500, 4.0)
    results["watch_one_at_500"] = await watch_latency_again(server)
    server.stop()
    again = Server(home)
    results["start_full_seconds"] = round(again.seconds_to_ready, 2)
    again.stop()
    results["store_mib"] = round((home / "state.db").stat().st_size / 2**20, 1)
    return results


async def watch_latency_again(server: Server) -> dict[str, float]:
    """One watcher alone, of fresh objects."""
    async with server.connections(1) as (connection,):
        await expect(connection, 200, "DELETE", CONFIG_MAPS)
    return await watch_latency(server, 1, 500, 2.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=5000)
    parser.add_argument("--watchers", type=int, default=50)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = asyncio.run(measure(Path(folder) / "home", arguments.objects, arguments.watchers))
    text = json.dumps(results, indent=2)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
