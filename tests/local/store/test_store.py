"""The store alone: order, visibility, preconditions, history, compaction, failure."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaito.local.store.errors import Compacted, Locked, Stale, WriteFailed
from kaito.local.store.lock import FolderLock
from kaito.local.store.records import Event, Key
from kaito.local.store.store import COMPACT_EVERY, Store


def key(name: str = "one", bucket: str = "things", namespace: str = "default") -> Key:
    return Key(bucket, namespace, name)


def thing(name: str = "one", **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Thing", "metadata": {"name": name}, "spec": spec}


def everything(_event: Event) -> bool:
    return True


async def test_a_write_is_seen_by_writers_at_once_and_by_readers_once_it_is_on_disk(tmp_path: Path) -> None:
    store = Store(tmp_path / "db")
    done = store.put(key(), thing(a=1), 0)
    assert store.get(key()) is None
    latest = store.latest(key())
    assert latest is not None
    with pytest.raises(Stale):
        store.put(key(), thing(a=2), 0)
    second = store.put(key(), thing(a=2), latest.revision)
    third = store.delete(key(), latest.revision + 1)
    assert store.latest(key()) is None
    assert [(await future).revision for future in (done, second, third)] == [1, 2, 3]
    assert store.get(key()) is None
    await store.close()


async def test_objects_keep_their_version_and_their_birth(tmp_path: Path) -> None:
    store = Store(tmp_path / "db")
    await store.put(key(), thing(), 0)
    record = await store.put(key(), thing(a=1), 1)
    assert record.value["metadata"]["resourceVersion"] == "2"
    assert (record.created, record.revision) == (1, 2)
    assert record.raw.startswith(b'{"apiVersion":"v1","kind":"Thing","metadata":')
    await store.close()


async def test_compaction_keeps_the_file_small_and_the_counter_growing(tmp_path: Path) -> None:
    store = Store(tmp_path / "db", history=100)
    revision = 0
    for step in range(3 * COMPACT_EVERY):
        revision = (await store.put(key(), thing(step=step), revision)).revision
    last = await store.delete(key(), revision)
    for step in range(2 * COMPACT_EVERY):
        last = await store.put(key(f"other-{step % 50}", "more"), thing(), 0 if step < 50 else last.revision - 49)
    await store.close()
    rows = sqlite3.connect(tmp_path / "db").execute("SELECT count(*) FROM log").fetchone()[0]
    assert rows < COMPACT_EVERY + 300
    again = Store(tmp_path / "db", history=100)
    assert again.revision == last.revision
    assert again.get(key()) is None
    assert len(again.records("more")) == 50
    with pytest.raises(Compacted):
        again.watch("more", 1, everything)
    await again.close()


async def test_the_counter_survives_a_compacted_deletion(tmp_path: Path) -> None:
    store = Store(tmp_path / "db", history=1)
    await store.put(key(), thing(), 0)
    await store.delete(key(), 1)
    store._log.compact(2)
    await store.close()
    again = Store(tmp_path / "db")
    assert again.revision == 2
    assert (await again.put(key(), thing(), 0)).revision == 3
    await again.close()


async def test_a_batch_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "db")
    await store.put(key(), thing(), 0)
    # A reader that holds the file for writing is what a full disk looks like to the batch: an sqlite3 error.
    blocker = sqlite3.connect(tmp_path / "db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    store._log._database.execute("PRAGMA busy_timeout=1")
    first, second = store.put(key(), thing(a=1), 1), store.put(key("two"), thing("two"), 0)
    for future in (first, second):
        with pytest.raises(WriteFailed):
            await future
    blocker.execute("ROLLBACK")
    blocker.close()
    latest = store.latest(key())
    assert latest is not None
    assert (latest.revision, store.latest(key("two"))) == (1, None)
    assert (await store.put(key(), thing(a=2), 1)).revision == 2
    await store.close()


async def test_a_watcher_gets_the_past_and_then_the_present(tmp_path: Path) -> None:
    store = Store(tmp_path / "db")
    await store.put(key(), thing(), 0)
    await store.put(key(), thing(a=1), 1)
    await store.put(key("x", "others"), thing("x"), 0)
    watcher = store.watch("things", 1, everything)
    await store.delete(key(), 2)
    assert [(event.type, event.revision) for event in await watcher.batch(1)] == [("MODIFIED", 2), ("DELETED", 4)]
    assert await watcher.batch(0.01) == []
    await store.close()
    assert watcher.closed


async def test_a_watcher_that_lags_is_marked(tmp_path: Path) -> None:
    store = Store(tmp_path / "db")
    watcher = store.watch("things", 0, everything, limit=2)
    for number in range(3):
        await store.put(key(f"n{number}"), thing(), 0)
    assert await watcher.batch(1) == []
    assert watcher.overflowed
    await store.close()


def test_a_folder_has_one_holder(tmp_path: Path) -> None:
    first, second = FolderLock(tmp_path / "lock"), FolderLock(tmp_path / "lock")
    first.acquire()
    with pytest.raises(Locked, match="pid"):
        second.acquire()
    first.release()
    second.acquire()
    second.release()


OPERATIONS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["put", "delete"])), max_size=30)


@settings(max_examples=50, deadline=None)
@given(operations=OPERATIONS, since=st.integers(0, 30))
def test_the_past_can_be_listed_and_a_replay_from_it_gives_the_present(
    tmp_path_factory: pytest.TempPathFactory, operations: list[tuple[str, str]], since: int
) -> None:
    """For every revision: list as of then, apply the events after it, and get today's list."""

    async def run(path: Path) -> None:
        store = Store(path)
        states: list[dict[str, int]] = [{}]
        for name, operation in operations:
            latest = store.latest(key(name))
            if operation == "put":
                await store.put(key(name), thing(name), latest.revision if latest else 0)
            elif latest is not None:
                await store.delete(key(name), latest.revision)
            else:
                continue
            states.append({record.key.name: record.revision for record in store.records("things")})
        revision = min(since, store.revision)
        state = {record.key.name: record.revision for record in store.records_at("things", "default", revision)}
        assert state == states[revision]
        watcher = store.watch("things", revision, everything)
        for event in await watcher.batch(0):
            assert (event.type == "ADDED") == (event.record.key.name not in state)
            if event.type == "DELETED":
                del state[event.record.key.name]
            else:
                state[event.record.key.name] = event.revision
        assert state == states[-1]
        await store.close()
        again = Store(path)
        assert {record.key.name: record.revision for record in again.records("things")} == states[-1]
        await again.close()

    # A loop of its own: asyncio.run would take the one that the test runner keeps for the other tests.
    loop = asyncio.new_event_loop()
    loop.run_until_complete(run(tmp_path_factory.mktemp("store") / "db"))
    loop.close()
