from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from kaito.kube import events
from kaito.kube.client import Client
from kaito.kube.events import EventRecorder, Reference
from kaito.kube.resources import EVENTS

ABOUT = Reference("v1", "ConfigMap", "a", "uid-a", "default")


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


async def written(client: Client) -> list[dict[str, Any]]:
    return [event for event, _ in (await client.list(EVENTS, "default")).items]


async def test_the_same_event_again_raises_its_count_after_a_while(client: Client) -> None:
    clock = Clock()
    recorder = EventRecorder(client, "test", clock)
    for pause in (0, 1, events.QUIET):
        clock.now += timedelta(seconds=pause)
        await recorder.record(ABOUT, "Normal", "Looked", "It was looked at.")
    (event,) = await written(client)
    assert event["count"] == 2
    assert event["lastTimestamp"] == "2026-01-01T00:05:01Z"


async def test_what_is_remembered_is_bounded(client: Client) -> None:
    recorder = EventRecorder(client, "test", Clock(), kept=3)
    for number in range(5):
        await recorder.record(ABOUT, "Normal", "Looked", f"Look {number}.")
    creates = client.calls["create"]
    await recorder.record(ABOUT, "Normal", "Looked", "Look 4.")
    assert client.calls["create"] == creates, "the newest is remembered"
    await recorder.record(ABOUT, "Normal", "Looked", "Look 0.")
    assert client.calls["create"] == creates + 1, "the oldest is not, and is written anew"
    counts = {event["message"]: event["count"] for event in await written(client)}
    assert counts == {f"Look {number}.": 2 if number == 0 else 1 for number in range(5)}
