"""Watch: a long answer, one JSON document a line, fed from the store's events.

The store fills a bounded buffer per watcher; this coroutine drains it into the socket in batches. A client that does
not read stops the drain, its buffer overflows, and its connection is cut: the client lists again, nobody else waits.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime

from aiohttp import web

from kaito.local.apiserver.answer import Accepted, encode, partial, to_table, wire
from kaito.local.apiserver.config import ServerConfig
from kaito.local.apiserver.options import ListOptions
from kaito.local.apiserver.read import Selection
from kaito.local.apiserver.resources import Resource
from kaito.local.machinery import errors
from kaito.local.store.errors import Compacted
from kaito.local.store.records import Event, Object, Record
from kaito.local.store.store import Store
from kaito.local.store.watch import Subscription

INITIAL_EVENTS_END = "k8s.io/initial-events-end"
CLOSING_BOOKMARK_SECONDS = 2.0
"""A watch that ends by its timeout gets a last bookmark, so that the client resumes from there."""


class Watch:
    """One watch request, from its first event to its end."""

    def __init__(
        self,
        store: Store,
        config: ServerConfig,
        resource: Resource,
        selection: Selection,
        options: ListOptions,
        accepted: Accepted,
        include: str,
    ) -> None:
        self._store = store
        self._config = config
        self._resource = resource
        self._selection = selection
        self._options = options
        self._accepted = accepted
        self._include = include
        self._form = f"{resource.info.api_version}/{accepted}/{include}"
        self._columns_told = False

    async def serve(self, request: web.BaseRequest, clock: Callable[[], float]) -> web.StreamResponse:
        """`clock` counts seconds and never goes back."""
        initial, since = self._start()
        subscription = self._subscribe(since)
        response = web.StreamResponse(
            headers={"Content-Type": "application/json", "Cache-Control": "no-cache, private"}
        )
        try:
            await response.prepare(request)
            if isinstance(subscription, errors.StatusError):
                await response.write(_line("ERROR", encode(subscription.status)))
                return response
            if initial:
                await response.write(b"".join(initial))
            await self._stream(request, response, subscription, clock)
        finally:
            if isinstance(subscription, Subscription):
                self._store.unwatch(self._resource.bucket, subscription)
        return response

    def _start(self) -> tuple[list[bytes], int]:
        """The events that come before the stream, and the version after which the stream begins."""
        options, current = self._options, self._store.revision
        asked = int(options.resource_version or 0)
        _check_match(options)
        if asked > current:
            raise errors.timed_out(f"Too large resource version: {asked}, current: {current}", retry_after=1)
        if options.send_initial or (asked == 0 and options.send_initial is None):
            lines = []
            for record in self._selected():
                lines.append(self._object_line("ADDED", record))
                self._columns_told = True
            if options.send_initial and options.bookmarks:
                lines.append(self._bookmark({INITIAL_EVENTS_END: "true"}))
            return lines, current
        return [], asked or current

    def _selected(self) -> list[Record]:
        return [record for record in self._store.records(self._resource.bucket) if self._selection.matches(record)]

    def _subscribe(self, since: int) -> Subscription | errors.StatusError:
        try:
            return self._store.watch(self._resource.bucket, since, self._wants, self._config.watch_buffer)
        except Compacted as error:
            return errors.gone(str(error))

    def _wants(self, event: Event) -> bool:
        if self._selection.matches(event.record):
            return True
        return event.previous is not None and self._selection.matches(event.previous)

    async def _stream(
        self,
        request: web.BaseRequest,
        response: web.StreamResponse,
        subscription: Subscription,
        clock: Callable[[], float],
    ) -> None:
        seconds = self._options.timeout or self._config.watch_seconds * (1 + random.random())  # noqa: S311  spread only
        end = clock() + seconds
        next_bookmark = clock() + self._config.bookmark_seconds
        while not subscription.closed:
            now = clock()
            if now >= end:
                break
            events = await subscription.batch(min(end, next_bookmark) - now)
            if subscription.overflowed:
                if request.transport is not None:
                    request.transport.abort()
                return
            lines = self._event_lines(events)
            if clock() >= next_bookmark:
                next_bookmark = clock() + self._config.bookmark_seconds
                if self._options.bookmarks:
                    lines.append(self._bookmark({}))
            if lines:
                await response.write(b"".join(lines))
        # The last bookmark speaks for all that came before it, so that must be told first.
        lines = self._event_lines(subscription.take())
        if self._options.bookmarks:
            lines.append(self._bookmark({}))
        if lines and not subscription.overflowed:
            await response.write(b"".join(lines))

    def _event_lines(self, events: list[Event]) -> list[bytes]:
        return [line for event in events if (line := self._event_line(event))]

    def _event_line(self, event: Event) -> bytes:
        """b"" when the selection has nothing to do with the change."""
        if event.type == "DELETED":
            return self._cached(event, "DELETED", event.record)
        now = self._selection.matches(event.record)
        before = event.previous is not None and self._selection.matches(event.previous)
        if now:
            return self._cached(event, "MODIFIED" if before else "ADDED", event.record)
        if before and event.previous is not None:
            # It left the selection: what it was when it was last in, at the version at which it left.
            line = _line("DELETED", self._encode(_at_revision(event.previous, event.revision)))
            self._columns_told = True
            return line
        return b""

    def _cached(self, event: Event, type_: str, record: Record) -> bytes:
        form = f"{type_}/{self._form}/{self._columns_told}"
        line = event.wire.get(form)
        if line is None:
            line = event.wire[form] = self._object_line(type_, record)
        self._columns_told = True
        return line

    def _object_line(self, type_: str, record: Record) -> bytes:
        return _line(type_, self._encode(record))

    def _encode(self, record: Record) -> bytes:
        accepted = self._accepted
        if accepted.transform == "Table":
            now: datetime = self._config.clock()
            metadata = {"resourceVersion": str(record.revision)}
            made = to_table(
                self._resource, [record], accepted=accepted, include=self._include, now=now, metadata=metadata
            )
            if self._columns_told:
                made["columnDefinitions"] = None  # the first table of a watch has told them
            return encode(made)
        if accepted.transform == "PartialObjectMetadata":
            return encode(partial(self._resource, record, accepted.version))
        return wire(self._resource, record)

    def _bookmark(self, annotations: dict[str, str]) -> bytes:
        """No event at or below this version is still to come."""
        info = self._resource.info
        metadata: Object = {"resourceVersion": str(self._store.revision)}
        if annotations:
            metadata["annotations"] = annotations
        bookmark: Object = {"kind": info.kind, "apiVersion": info.api_version, "metadata": metadata}
        if self._accepted.transform == "Table":
            row = {"cells": [], "object": {**bookmark, "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}}
            bookmark = {
                "kind": "Table",
                "apiVersion": f"meta.k8s.io/{self._accepted.version}",
                "metadata": {"resourceVersion": metadata["resourceVersion"]},
                "columnDefinitions": None,
                "rows": [row],
            }
        return _line("BOOKMARK", encode(bookmark))


def _check_match(options: ListOptions) -> None:
    """A watch may say how old its first state may be only where it asks for that state."""
    match, causes = options.version_match, []
    if options.send_initial is None and match:
        message = "Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
        causes.append(errors.FieldCause("resourceVersionMatch", message, errors.FIELD_FORBIDDEN))
    if options.send_initial is not None and not match:
        message = "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        causes.append(errors.FieldCause("resourceVersionMatch", message, errors.FIELD_FORBIDDEN))
    if match and match != "NotOlderThan":
        message = f'Unsupported value: "{match}": supported values: "NotOlderThan"'
        causes.append(errors.FieldCause("resourceVersionMatch", message, errors.FIELD_NOT_SUPPORTED))
    if causes:
        raise errors.invalid("meta.k8s.io", "ListOptions", "", causes)


def _at_revision(record: Record, revision: int) -> Record:
    value = record.copy()
    value["metadata"]["resourceVersion"] = str(revision)
    return Record(record.key, encode(value), revision, record.created)


def _line(type_: str, body: bytes) -> bytes:
    return b'{"type":"%s","object":%s}\n' % (type_.encode(), body)
