"""The embedded API server under load: creates, status patches, lists of 5,000 Workspaces, watch fan-out, restart.

    python benchmarks/apiserver.py [--objects 5000] [--watchers 50] [--json FILE]

The server runs in a process of its own; clients are plain TLS connections of this one, so that the client costs little.
Where KUBEBUILDER_ASSETS names a folder with `kube-apiserver` and `etcd`, the same is measured with them in the same
run, etcd without fsync as the embedded store. Rates and latencies are of the wall clock, and so of a machine that is
not busy otherwise; the processor time of the servers for a request is not. Aims on two cores: above 2,000 small writes
a second, p99 watch latency under 20 ms at 500 writes a second, a list of 5,000 in under 150 ms, start to ready under
1 s with 5,000 objects stored.
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
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import yaml

from kaito.api.crds import workspace_crd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the tests know how to start a real kube-apiserver
from tests.support.real_cluster import RealCluster, assets

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
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                return int(head[9:12]), await self._reader.readexactly(int(line.split(b":")[1]))
        return int(head[9:12]), b"".join([chunk async for chunk in self._chunks()])

    async def _chunks(self) -> AsyncIterator[bytes]:
        while size := int(await self._reader.readline(), 16):
            yield await self._reader.readexactly(size)
            await self._reader.readexactly(2)
        await self._reader.readexactly(2)

    async def lines(self) -> Any:
        """The lines of a chunked answer, as they come."""
        await self._reader.readuntil(b"\r\n\r\n")
        buffer = b""
        async for chunk in self._chunks():
            buffer += chunk
            *lines, buffer = buffer.split(b"\n")
            for line in lines:
                yield line

    def close(self) -> None:
        self._writer.close()


class Server:
    """The embedded server, on the folder `home`."""

    name = "embedded"

    def __init__(self, home: Path) -> None:
        self.home = home
        self.start()
        config = yaml.safe_load((home / "kubeconfig").read_text())
        self.token = config["users"][0]["user"]["token"]
        self._tls = ssl.create_default_context(cafile=str(home / "pki" / "ca.crt"))

    def start(self) -> None:
        started = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kaito.local.apiserver", "--home", str(self.home), "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout is not None
        self.url = urlsplit(self.process.stdout.readline().strip())
        self.seconds_to_ready = time.perf_counter() - started

    @property
    def pids(self) -> list[int]:
        return [self.process.pid]

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
        return sum(float(psutil.Process(pid).memory_info().rss / 2**20) for pid in self.pids)

    def processor_seconds(self) -> float:
        """What its processes have used so far."""
        used = [psutil.Process(pid).cpu_times() for pid in self.pids]
        return sum(float(one.user + one.system) for one in used)

    def store_mib(self) -> float:
        return sum(path.stat().st_size for path in self.home.glob("state.db*")) / 2**20

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)
        assert self.process.stdout is not None
        self.process.stdout.close()


class RealServer(Server):
    """kube-apiserver and etcd, as envtest starts them."""

    name = "kube-apiserver and etcd"

    def __init__(self, cluster: RealCluster) -> None:
        self.cluster = cluster
        self.home = cluster.home
        started = time.perf_counter()
        cluster.start()
        self.seconds_to_ready = time.perf_counter() - started
        self.url = urlsplit(cluster.url)
        self.token = cluster.token
        self._tls = ssl.create_default_context(cafile=str(cluster.ca))

    def start(self) -> None:
        started = time.perf_counter()
        self.cluster.launch()
        self.seconds_to_ready = time.perf_counter() - started

    @property
    def pids(self) -> list[int]:
        return self.cluster.pids

    def store_mib(self) -> float:
        return sum(path.stat().st_size for path in (self.home / "etcd").rglob("*") if path.is_file()) / 2**20

    def stop(self) -> None:
        self.cluster.stop()


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
    """`count` pieces of work over all connections: the rate, the latencies and the servers' processor time of each."""
    numbers = iter(range(count))
    latencies: list[float] = []

    async def run(connection: Connection) -> None:
        for number in numbers:
            started = time.perf_counter()
            await work(connection, number)
            latencies.append(time.perf_counter() - started)

    async with server.connections(CONNECTIONS) as connections:
        used, started = server.processor_seconds(), time.perf_counter()
        await asyncio.gather(*(run(connection) for connection in connections))
        elapsed = time.perf_counter() - started
        used = server.processor_seconds() - used
    return {"per_second": round(count / elapsed), **percentiles(latencies), "cpu_us": round(used / count * 1e6)}


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


async def measure(server: Server, objects: int, watchers: int) -> dict[str, Any]:
    results: dict[str, Any] = {"start_empty_seconds": round(server.seconds_to_ready, 2)}
    async with server.connections(1) as (connection,):
        crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        await expect(connection, 201, "POST", crds, json.dumps(workspace_crd()).encode())
        while (await connection.request("GET", WORKSPACES))[0] != 200:
            await asyncio.sleep(0.1)

    async def create_config_map(connection: Connection, number: int) -> None:
        await expect(connection, 201, "POST", CONFIG_MAPS, config_map(f"cm-{number}", a="1"))

    async def create(connection: Connection, number: int) -> None:
        await expect(connection, 201, "POST", WORKSPACES, workspace(f"ws-{number}"))

    async def patch(connection: Connection, number: int) -> None:
        path = f"{WORKSPACES}/ws-{number % objects}/status"
        await expect(connection, 200, "PATCH", path, status_patch(number), "application/merge-patch+json")

    async def apply(connection: Connection, number: int) -> None:
        path = f"{WORKSPACES}/ws-{number % objects}?fieldManager=bench&force=true"
        await expect(connection, 200, "PATCH", path, labelled(number, objects), "application/apply-patch+yaml")

    results["create_config_map"] = await load(server, 4000, create_config_map)
    results["create_workspace"] = await load(server, objects, create)
    results["patch_status"] = await load(server, objects, patch)
    results["apply"] = await load(server, objects, apply)
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
    server.start()
    results["start_full_seconds"] = round(server.seconds_to_ready, 2)
    server.stop()
    results["store_mib"] = round(server.store_mib(), 1)
    return results


def labelled(number: int, objects: int) -> bytes:
    """An apply that changes one label."""
    manifest = json.loads(workspace(f"ws-{number % objects}"))
    manifest["metadata"]["labels"]["round"] = str(number)
    return json.dumps(manifest).encode()


async def watch_latency_again(server: Server) -> dict[str, float]:
    """One watcher alone, of fresh objects."""
    async with server.connections(1) as (connection,):
        await expect(connection, 200, "DELETE", CONFIG_MAPS)
    return await watch_latency(server, 1, 500, 2.0)


LOADS = {
    "create_config_map": "create a ConfigMap",
    "create_workspace": "create a Workspace",
    "patch_status": "patch a Workspace's status",
    "apply": "apply a Workspace that changed",
}


def table(results: dict[str, dict[str, Any]]) -> str:
    """Markdown, a column a server."""
    servers = list(results)
    rows = [["", *servers], ["---"] * (len(servers) + 1)]
    for key, what in LOADS.items():
        rows.append([f"{what}: a second", *(f"{results[one][key]['per_second']:,}" for one in servers)])
        rows.append(["p50, p99 ms", *("{p50_ms:.1f}, {p99_ms:.1f}".format(**results[one][key]) for one in servers)])
        rows.append(["processor time each, microseconds", *(str(results[one][key]["cpu_us"]) for one in servers)])
    listed = results[servers[0]]["list"]
    rows.append([f"list {listed['objects']:,}: p50 ms", *(f"{results[one]['list']['p50_ms']:.0f}" for one in servers)])
    for key in ("watch_at_500", "watch_one_at_500"):
        watch = results[servers[0]][key]
        shown = ("{p50_ms:.1f}, {p99_ms:.1f} ({writes_per_second})".format(**results[one][key]) for one in servers)
        rows.append([f"event to {watch['watchers']} watchers: p50, p99 ms (writes a second, of 500 asked)", *shown])
    for key, what in (
        ("memory_mib", "memory, MiB"),
        ("store_mib", "store on disk, MiB"),
        ("start_empty_seconds", "first start, s"),
        ("start_full_seconds", "start with all of it stored, s"),
    ):
        rows.append([what, *(str(results[one][key]) for one in servers)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=5000)
    parser.add_argument("--watchers", type=int, default=50)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        programs = assets()
        makers: list[Callable[[], Server]] = [lambda: Server(Path(folder) / "embedded")]
        if programs is not None:
            makers.append(lambda: RealServer(RealCluster(programs, Path(folder) / "real")))
        for make in makers:
            server = make()
            try:
                results[server.name] = asyncio.run(measure(server, arguments.objects, arguments.watchers))
            except BaseException:
                server.stop()
                raise
    print(table(results))
    print(f"\n{psutil.cpu_count()} processors, load {psutil.getloadavg()[0]:.1f}, Python {sys.version.split()[0]}")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
