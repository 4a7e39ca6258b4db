"""Two electors and one lease, over a real API server; one of them can be cut off from it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from kaito.kube.client import Client
from kaito.kube.lease import LeaderElector
from kaito.kube.resources import LEASES
from tests.support.cluster import Cluster

DURATION, DEADLINE, RETRY = 1.2, 0.8, 0.1


def elector(client: Client, identity: str) -> LeaderElector:
    return LeaderElector(
        client,
        namespace="default",
        name="leader",
        identity=identity,
        duration=DURATION,
        deadline=DEADLINE,
        retry=RETRY,
    )


class Throne:
    """Who leads: notes everyone who starts and stops, and fails when two do at once."""

    def __init__(self) -> None:
        self.reigns: list[str] = []
        self.leading: set[str] = set()
        self._changed = asyncio.Event()

    async def reign(self, identity: str) -> None:
        assert not self.leading, f"{identity} leads beside {self.leading}"
        self.leading.add(identity)
        self.reigns.append(identity)
        self._changed.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.leading.discard(identity)
            self._changed.set()

    async def until_reign(self, count: int) -> None:
        async with asyncio.timeout(15):
            while len(self.reigns) < count:
                self._changed.clear()
                await self._changed.wait()


@asynccontextmanager
async def campaign(elector: LeaderElector, throne: Throne) -> AsyncIterator[asyncio.Task[None]]:
    async def for_ever() -> None:
        while True:
            await elector.lead(lambda: throne.reign(elector.identity))

    task = asyncio.create_task(for_ever())
    try:
        yield task
    finally:
        task.cancel()
        outcome = (await asyncio.gather(task, return_exceptions=True))[0]
        assert isinstance(outcome, asyncio.CancelledError), outcome


class Wire:
    """A TCP connection to the API server that can be stopped: what is sent then neither arrives nor fails."""

    def __init__(self, cluster: Cluster) -> None:
        self._target = urlsplit(cluster.url)
        self._open = asyncio.Event()
        self._open.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Wire:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    def cut(self) -> None:
        self._open.clear()

    def mend(self) -> None:
        self._open.set()

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._forward(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection(self._target.hostname, self._target.port)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._copy(reader, up_writer))
                group.create_task(self._copy(up_reader, writer))
        except* OSError:
            pass  # Either end went away.
        finally:
            for end in (writer, up_writer):
                end.transport.abort()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await self._open.wait()
            writer.write(data)
            await writer.drain()
        writer.close()


def kubeconfig_over(wire: Wire, cluster: Cluster, folder: Path) -> Path:
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{wire.port}"
    path = folder / "over-wire"
    path.write_text(yaml.safe_dump(config))
    return path


async def test_one_leads_and_hands_over_at_once_when_it_leaves(cluster: Cluster, client: Client) -> None:
    throne = Throne()
    async with campaign(elector(client, "b"), throne) as second:
        await throne.until_reign(1)
        async with campaign(elector(client, "a"), throne):
            await asyncio.sleep(2 * DURATION)  # The lease is renewed: nobody takes it over.
            assert throne.reigns == ["b"]
            loop = asyncio.get_running_loop()
            left = loop.time()
            second.cancel()
            await throne.until_reign(2)
            assert loop.time() - left < DEADLINE
    assert throne.reigns == ["b", "a"]
    lease = await client.get(LEASES, "leader", "default")
    assert (lease.spec.holderIdentity, lease.spec.leaseTransitions) == ("", 1)


async def test_a_leader_that_is_cut_off_stops_before_the_next_one_starts(
    cluster: Cluster, client: Client, tmp_path: Path
) -> None:
    throne = Throne()
    async with (
        Wire(cluster) as wire,
        Client.connect(kubeconfig_over(wire, cluster, tmp_path)) as far,
        campaign(elector(far, "far"), throne),
    ):
        await throne.until_reign(1)
        async with campaign(elector(client, "near"), throne):
            await asyncio.sleep(3 * RETRY)
            wire.cut()
            await throne.until_reign(2)
            assert throne.reigns == ["far", "near"]
            wire.mend()
            await asyncio.sleep(DURATION)
            assert throne.leading == {"near"}
        await throne.until_reign(3)
        assert throne.reigns[2] == "far"


async def test_many_campaign_and_never_two_lead(cluster: Cluster) -> None:
    """Five electors; whoever leads is ended again and again."""
    throne = Throne()
    async with asyncio.TaskGroup() as group:
        clients = [Client.connect(cluster.kubeconfig) for _ in range(5)]
        electors = [elector(one, f"e{number}") for number, one in enumerate(clients)]

        async def term(one: LeaderElector) -> None:
            for _ in range(3):
                try:
                    async with asyncio.timeout(None) as patience:
                        await one.lead(lambda: short_reign(one, patience))
                except TimeoutError:
                    continue

        async def short_reign(one: LeaderElector, patience: asyncio.Timeout) -> None:
            patience.reschedule(asyncio.get_running_loop().time() + 0.05)
            await throne.reign(one.identity)

        terms = [group.create_task(term(one)) for one in electors]
        async with asyncio.timeout(60):
            await asyncio.wait(terms)
    for one in clients:
        await one.close()
    assert len(throne.reigns) == 15
    assert {identity: len(list(g)) for identity, g in itertools.groupby(sorted(throne.reigns))} == {
        f"e{n}": 3 for n in range(5)
    }


async def test_an_error_of_the_work_ends_the_reign_and_releases(client: Client) -> None:
    async def fail() -> None:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        await elector(client, "a").lead(fail)
    assert (await client.get(LEASES, "leader", "default")).spec.holderIdentity == ""


@pytest.mark.parametrize(("duration", "deadline", "retry"), [(1, 1, 0.1), (1, 2, 0.1), (3, 2, 2)])
async def test_times_that_could_make_two_leaders_are_refused(
    client: Client, duration: float, deadline: float, retry: float
) -> None:
    with pytest.raises(ValueError, match="retry < deadline < duration"):
        LeaderElector(client, namespace="d", name="l", identity="a", duration=duration, deadline=deadline, retry=retry)
