"""The store: the current state and the recent past in memory, every change in the log before anybody sees it.

All methods run on one event loop. A write is computed from `latest` (which includes writes still on their way to the
disk), joins the next batch, and becomes visible to reads and watches only when its batch is committed; so no client
ever sees a revision that a crash could take back. One batch is in flight at a time: under load, writes that arrive
meanwhile share the next commit.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from kaito.local.store.errors import Compacted, Stale, WriteFailed
from kaito.local.store.log import RevisionLog, Row
from kaito.local.store.records import Event, Key, Object, Record, encode_object, parse_key
from kaito.local.store.watch import Filter, Subscription

HISTORY = 10_000
"""Events kept for watches that resume, over all kinds."""
COMPACT_EVERY = 1_000
"""Revisions between two compactions: small steps, so that no write waits long behind one."""
WATCH_BUFFER = 2_000
"""Events that a watcher may lag behind before it is cut off."""


class _Write(NamedTuple):
    row: Row
    event: Event
    done: asyncio.Future[Record]


class _Bucket:
    """The objects of one kind, their recent events and their watchers."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], Record] = {}
        self.history: deque[Event] = deque()
        self.watchers: set[Subscription] = set()
        self.listeners: list[Callable[[Event], None]] = []


class Store:
    def __init__(self, path: Path, *, history: int = HISTORY) -> None:
        self._log = RevisionLog(path)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._history_limit = history
        self._history: deque[tuple[int, str]] = deque()
        self._buckets: dict[str, _Bucket] = {}
        self._pending: dict[Key, tuple[_Write, Record | None]] = {}
        self._queue: list[_Write] = []
        self._flush: asyncio.Task[None] | None = None
        self._compacted = self._log.meta("compacted")
        self._oldest = self._compacted
        self.revision = self._log.meta("revision")
        for row in self._log.rows():
            self._replay(row)
        self._next = self.revision

    # Reads: what is committed.

    def get(self, key: Key) -> Record | None:
        return self._bucket(key.bucket).records.get((key.namespace, key.name))

    def records(self, bucket: str, namespace: str = "") -> list[Record]:
        """Records of one kind in the order of their names; of all namespaces when none is given."""
        records = self._bucket(bucket).records
        if not namespace:
            return [records[key] for key in sorted(records)]
        return [records[key] for key in sorted(key for key in records if key[0] == namespace)]

    def records_at(self, bucket: str, namespace: str, revision: int) -> list[Record]:
        """`records` as they were at an earlier revision: the present, its later events undone. Raises Compacted."""
        if revision < self._oldest:
            raise Compacted(revision, self._oldest)
        found = self._bucket(bucket)
        past = dict(found.records)
        for event in reversed(found.history):
            if event.revision <= revision:
                break
            name = (event.record.key.namespace, event.record.key.name)
            if event.previous is None:
                past.pop(name, None)
            else:
                past[name] = event.previous
        return [past[name] for name in sorted(past) if not namespace or name[0] == namespace]

    def is_empty(self, bucket: str, namespace: str) -> bool:
        return not any(key[0] == namespace for key in self._bucket(bucket).records)

    def watch(self, bucket: str, since: int, wants: Filter, limit: int = WATCH_BUFFER) -> Subscription:
        """Every event of the bucket after the revision `since`, past ones first. Raises Compacted."""
        if since < self._oldest:
            raise Compacted(since, self._oldest)
        found = self._bucket(bucket)
        subscription = Subscription(wants, limit)
        subscription.replay([event for event in found.history if event.revision > since])
        found.watchers.add(subscription)
        return subscription

    def listen(self, bucket: str, listener: Callable[[Event], None]) -> None:
        """Calls the listener with every event from now on, before the write that made it is acknowledged."""
        self._bucket(bucket).listeners.append(listener)

    def unwatch(self, bucket: str, subscription: Subscription) -> None:
        self._bucket(bucket).watchers.discard(subscription)

    def watchers(self) -> Iterable[Subscription]:
        return [watcher for bucket in self._buckets.values() for watcher in bucket.watchers]

    # Writes: computed from `latest`, acknowledged once committed.

    def latest(self, key: Key) -> Record | None:
        """The record as the next write must see it."""
        if key in self._pending:
            return self._pending[key][1]
        return self.get(key)

    def latest_records(self, bucket: str) -> list[Record]:
        """All records of one kind as the next write must see them, in no order."""
        found = {record.key: record for record in self._bucket(bucket).records.values()}
        for key, (_, record) in self._pending.items():
            if key.bucket == bucket:
                if record is None:
                    found.pop(key, None)
                else:
                    found[key] = record
        return list(found.values())

    def put(self, key: Key, value: Object, expected: int) -> asyncio.Future[Record]:
        """Writes the object over the record at revision `expected` (0: there is none).

        The future gives the record once it is on disk. Raises Stale at once; the future raises WriteFailed.
        """
        before = self._expect(key, expected)
        revision = self._next + 1
        record = Record(key, encode_object(value, revision), revision, before.created if before else revision)
        event = Event("MODIFIED" if before else "ADDED", record, before)
        return self._enqueue(key, event, record)

    def delete(self, key: Key, expected: int, value: Object | None = None) -> asyncio.Future[Record]:
        """Removes the record at revision `expected`. `value` is its last state where that differs from the stored."""
        before = self._expect(key, expected)
        if before is None:
            raise Stale(expected, None)
        revision = self._next + 1
        raw = encode_object(before.value if value is None else value, revision)
        return self._enqueue(key, Event("DELETED", Record(key, raw, revision, before.created), before), None)

    async def settled(self, key: Key) -> None:
        """Returns once every write to the key that `latest` shows is committed. Raises WriteFailed."""
        if key in self._pending:
            await asyncio.shield(self._pending[key][0].done)

    async def close(self) -> None:
        """Commits what is queued, ends all watches, closes the file."""
        while self._flush is not None:
            await asyncio.wait([self._flush])
        for subscription in self.watchers():
            subscription.close()
        self._thread.shutdown()
        self._log.close()

    def _expect(self, key: Key, expected: int) -> Record | None:
        before = self.latest(key)
        current = before.revision if before else 0
        if current != expected:
            raise Stale(expected, current or None)
        return before

    def _enqueue(self, key: Key, event: Event, after: Record | None) -> asyncio.Future[Record]:
        record = event.record
        previous = event.previous.revision if event.previous else 0
        row = Row(record.revision, str(key), int(after is None), record.created, previous, record.raw)
        done: asyncio.Future[Record] = asyncio.get_running_loop().create_future()
        self._next = record.revision
        write = _Write(row, event, done)
        self._pending[key] = (write, after)
        self._queue.append(write)
        if self._flush is None:
            self._flush = asyncio.create_task(self._flush_queue())
        return done

    async def _flush_queue(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._queue:
                batch, self._queue = self._queue, []
                try:
                    await loop.run_in_executor(self._thread, self._commit, [write.row for write in batch])
                except sqlite3.Error as error:
                    self._fail(batch, error)
                else:
                    self._publish(batch)
        finally:
            self._flush = None

    def _commit(self, rows: list[Row]) -> None:
        """On the store's thread."""
        self._log.append(rows)
        if self._oldest - self._compacted >= COMPACT_EVERY:
            self._log.compact(self._oldest)
            self._compacted = self._oldest

    def _publish(self, batch: list[_Write]) -> None:
        for write in batch:
            self._apply(write.event)
            key = write.event.record.key
            if self._pending[key][0] is write:
                del self._pending[key]
            bucket = self._buckets[key.bucket]
            for listener in bucket.listeners:
                listener(write.event)
            for watcher in bucket.watchers:
                watcher.offer(write.event)
        for write in batch:
            if not write.done.cancelled():
                write.done.set_result(write.event.record)

    def _fail(self, batch: list[_Write], error: sqlite3.Error) -> None:
        """Nothing of the batch was written, so nothing that was computed from it may be either."""
        failed, self._queue = batch + self._queue, []
        self._pending.clear()
        self._next = self.revision
        for write in failed:
            if not write.done.cancelled():
                write.done.set_exception(WriteFailed(f"the store could not write: {error}"))

    def _replay(self, row: Row) -> None:
        key = parse_key(row.key)
        before = self.get(key)
        record = Record(key, row.value, row.revision, row.created)
        self._apply(Event("DELETED" if row.deleted else "MODIFIED" if before else "ADDED", record, before))

    def _apply(self, event: Event) -> None:
        record = event.record
        bucket = self._bucket(record.key.bucket)
        name = (record.key.namespace, record.key.name)
        if event.type == "DELETED":
            bucket.records.pop(name, None)
        else:
            bucket.records[name] = record
        if event.previous:
            event.previous.forget()
        self.revision = record.revision
        if record.revision <= self._compacted:
            return
        bucket.history.append(event)
        self._history.append((record.revision, record.key.bucket))
        while len(self._history) > self._history_limit:
            self._oldest, oldest_bucket = self._history.popleft()
            self._buckets[oldest_bucket].history.popleft()

    def _bucket(self, name: str) -> _Bucket:
        found = self._buckets.get(name)
        if found is None:
            found = self._buckets[name] = _Bucket()
        return found
