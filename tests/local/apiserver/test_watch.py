"""Watch: nothing lost, nothing twice, resume, selectors, bookmarks, streaming lists, slow watchers."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import Cluster

CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


def config_map(name: str, labels: dict[str, str] | None = None, **data: str) -> dict[str, Any]:
    metadata = {"name": name, "labels": labels or {}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


class Watch:
    """The events of one watch request, one at a time."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.code = response.status
        self._response = response
        self._buffer = b""

    def next(self) -> tuple[str, dict[str, Any]]:
        while b"\n" not in self._buffer:
            # read1, because HTTPResponse.readline goes byte by byte through chunked bodies.
            received = self._response.read1(1 << 20)
            assert received, "the watch ended"
            self._buffer += received
        line, _, self._buffer = self._buffer.partition(b"\n")
        event = json.loads(line)
        return event["type"], event["object"]

    def rest(self) -> list[tuple[str, dict[str, Any]]]:
        lines = (self._buffer + self._response.read()).splitlines()
        return [(event["type"], event["object"]) for event in map(json.loads, lines)]


@contextmanager
def watching(cluster: Cluster, path: str, **headers: str) -> Iterator[Watch]:
    connection = cluster.connect()
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {cluster.token}", **headers})
        yield Watch(connection.getresponse())
    finally:
        connection.close()


def test_a_watch_from_a_version_replays_what_came_after(cluster: Cluster) -> None:
    start = cluster.request("GET", CONFIG_MAPS).json()["metadata"]["resourceVersion"]
    cluster.request("POST", CONFIG_MAPS, config_map("one"))
    cluster.request(
        "PATCH", f"{CONFIG_MAPS}/one", {"data": {"a": "1"}}, {"Content-Type": "application/merge-patch+json"}
    )
    cluster.request("DELETE", f"{CONFIG_MAPS}/one")
    with watching(cluster, f"{CONFIG_MAPS}?watch=1&resourceVersion={start}&timeoutSeconds=1") as watch:
        events = watch.rest()
    assert [type_ for type_, _ in events] == ["ADDED", "MODIFIED", "DELETED"]
    versions = [int(obj["metadata"]["resourceVersion"]) for _, obj in events]
    assert versions == sorted(set(versions))
    assert int(start) < versions[0]


@pytest.mark.parametrize("version", ["", "&resourceVersion=0"], ids=["unset", "zero"])
def test_a_watch_without_a_version_begins_with_what_is_there(cluster: Cluster, version: str) -> None:
    cluster.request("POST", CONFIG_MAPS, config_map("one"))
    with watching(cluster, f"{CONFIG_MAPS}?watch=1{version}") as watch:
        assert watch.next()[1]["metadata"]["name"] == "one"
        cluster.request("POST", CONFIG_MAPS, config_map("two"))
        type_, obj = watch.next()
    assert (type_, obj["metadata"]["name"]) == ("ADDED", "two")


def test_an_object_that_leaves_the_selection_is_deleted_from_it(cluster: Cluster) -> None:
    merge = {"Content-Type": "application/merge-patch+json"}
    cluster.request("POST", CONFIG_MAPS, config_map("one", {"team": "a"}, k="1"))
    with watching(cluster, f"{CONFIG_MAPS}?watch=1&labelSelector=team%3Da") as watch:
        assert watch.next()[0] == "ADDED"
        left = cluster.request("PATCH", f"{CONFIG_MAPS}/one", {"metadata": {"labels": {"team": "b"}}}, merge).json()
        type_, obj = watch.next()
        assert (type_, obj["metadata"]["labels"]) == ("DELETED", {"team": "a"})
        assert obj["metadata"]["resourceVersion"] == left["metadata"]["resourceVersion"]
        cluster.request("PATCH", f"{CONFIG_MAPS}/one", {"metadata": {"labels": {"team": "a"}}}, merge)
        assert watch.next()[0] == "ADDED"
        cluster.request("DELETE", f"{CONFIG_MAPS}/one")
        assert watch.next()[0] == "DELETED"


def test_a_streaming_list_ends_with_its_bookmark(cluster: Cluster) -> None:
    cluster.request("POST", CONFIG_MAPS, config_map("one"))
    query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    with watching(cluster, f"{CONFIG_MAPS}?{query}") as watch:
        assert watch.next()[0] == "ADDED"
        type_, bookmark = watch.next()
    assert type_ == "BOOKMARK"
    assert bookmark["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    refused = cluster.request("GET", f"{CONFIG_MAPS}?watch=1&sendInitialEvents=true")
    assert refused.code == 422


def test_a_watch_ends_at_its_timeout_with_a_bookmark(cluster: Cluster) -> None:
    with watching(cluster, f"{CONFIG_MAPS}?watch=1&allowWatchBookmarks=true&timeoutSeconds=1") as watch:
        events = watch.rest()
    assert [type_ for type_, _ in events] == ["BOOKMARK"]


def test_rows_of_a_table_are_watched_too(cluster: Cluster) -> None:
    with watching(cluster, f"{CONFIG_MAPS}?watch=1", Accept=TABLE) as watch:
        cluster.request("POST", CONFIG_MAPS, config_map("one"))
        type_, table = watch.next()
    assert (type_, table["kind"], table["rows"][0]["cells"][0]) == ("ADDED", "Table", "one")


def test_a_version_older_than_the_history_is_gone(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path / "home", history=5)
    cluster.start()
    try:
        for number in range(10):
            cluster.request("POST", CONFIG_MAPS, config_map(f"cm-{number}"))
        with watching(cluster, f"{CONFIG_MAPS}?watch=1&resourceVersion=1") as watch:
            type_, status = watch.next()
        assert watch.code == 200
        assert type_ == "ERROR"
        assert (status["code"], status["reason"]) == (410, "Expired")
        page = cluster.request("GET", f"{CONFIG_MAPS}?limit=2").json()
        for number in range(10):
            cluster.request("DELETE", f"{CONFIG_MAPS}/cm-{number}")
        expired = cluster.request("GET", f"{CONFIG_MAPS}?limit=2&continue={page['metadata']['continue']}")
        assert (expired.code, expired.json()["reason"]) == (410, "Expired")
    finally:
        cluster.stop()


def test_history_and_state_outlive_a_restart(cluster: Cluster) -> None:
    start = cluster.request("GET", CONFIG_MAPS).json()["metadata"]["resourceVersion"]
    cluster.request("POST", CONFIG_MAPS, config_map("one"))
    cluster.request("POST", CONFIG_MAPS, config_map("two"))
    cluster.request("DELETE", f"{CONFIG_MAPS}/two")
    before = cluster.request("GET", f"{CONFIG_MAPS}/one").json()
    cluster.restart()
    assert cluster.request("GET", f"{CONFIG_MAPS}/one").json() == before
    assert cluster.request("GET", f"{CONFIG_MAPS}/two").code == 404
    with watching(cluster, f"{CONFIG_MAPS}?watch=1&resourceVersion={start}&timeoutSeconds=1") as watch:
        assert [type_ for type_, _ in watch.rest()] == ["ADDED", "ADDED", "DELETED"]


def test_a_page_is_of_the_version_that_the_list_began_with(cluster: Cluster) -> None:
    for name in "abcde":
        cluster.request("POST", CONFIG_MAPS, config_map(name))
    first = cluster.request("GET", f"{CONFIG_MAPS}?limit=2").json()
    assert first["metadata"]["remainingItemCount"] == 3
    cluster.request("DELETE", f"{CONFIG_MAPS}/d")
    cluster.request("POST", CONFIG_MAPS, config_map("bb"))
    second = cluster.request("GET", f"{CONFIG_MAPS}?limit=2&continue={first['metadata']['continue']}").json()
    third = cluster.request("GET", f"{CONFIG_MAPS}?limit=2&continue={second['metadata']['continue']}").json()
    names = [item["metadata"]["name"] for page in (first, second, third) for item in page["items"]]
    assert names == list("abcde")
    assert {page["metadata"]["resourceVersion"] for page in (first, second, third)} == {
        first["metadata"]["resourceVersion"]
    }


def test_list_then_watch_sees_every_write_once(cluster: Cluster) -> None:
    """Four writers; the list and the events after it, put together, are exactly the final state."""
    writers, each = 4, 40

    def write(number: int) -> None:
        for step in range(each):
            name = f"w{number}-{step % 7}"
            body = config_map(name, None, step=str(step))
            if cluster.request("POST", CONFIG_MAPS, body).code == 409:
                if step % 3:
                    cluster.request("PUT", f"{CONFIG_MAPS}/{name}", body)
                else:
                    cluster.request("DELETE", f"{CONFIG_MAPS}/{name}")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
    for thread in threads:
        thread.start()
    listed = cluster.request("GET", CONFIG_MAPS).json()
    seen = {item["metadata"]["name"]: item for item in listed["items"]}
    version = listed["metadata"]["resourceVersion"]
    revisions: list[int] = []
    with watching(cluster, f"{CONFIG_MAPS}?watch=1&resourceVersion={version}") as watch:
        for thread in threads:
            thread.join()
        cluster.request("POST", CONFIG_MAPS, config_map("last"))
        while "last" not in seen:
            type_, obj = watch.next()
            name = obj["metadata"]["name"]
            revisions.append(int(obj["metadata"]["resourceVersion"]))
            assert (type_ == "ADDED") == (name not in seen)
            if type_ == "DELETED":
                del seen[name]
            else:
                seen[name] = obj
    assert revisions == sorted(set(revisions))
    final = {item["metadata"]["name"]: item for item in cluster.request("GET", CONFIG_MAPS).json()["items"]}
    typed = {"apiVersion": "v1", "kind": "ConfigMap"}  # which the elements of a list do not repeat
    assert {name: typed | item for name, item in seen.items()} == {name: typed | item for name, item in final.items()}


def test_a_watch_that_ends_has_told_all_that_its_bookmark_speaks_for(cluster: Cluster) -> None:
    """A client that reads late, when the watch is over: what came while its socket was full is told before the end."""
    start = cluster.request("GET", CONFIG_MAPS).json()["metadata"]["resourceVersion"]
    query = f"watch=1&allowWatchBookmarks=true&timeoutSeconds=1&resourceVersion={start}"
    names = [f"big-{number}" for number in range(30)]
    with watching(cluster, f"{CONFIG_MAPS}?{query}") as watch:
        for name in names:  # more than the sockets between the two hold
            assert cluster.request("POST", CONFIG_MAPS, config_map(name, None, text="x" * 700_000)).code == 201
        time.sleep(1.0)
        events = watch.rest()
    assert [obj["metadata"]["name"] for type_, obj in events if type_ != "BOOKMARK"] == names
    assert events[-1][0] == "BOOKMARK"


WATCHERS, DEAF, WRITES = 50, 10, 60
"""Watchers in all, of which so many never read."""


def test_of_fifty_watchers_those_that_never_read_are_cut_off_and_slow_nobody(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path / "home", watch_buffer=20)
    cluster.start()
    path, headers = f"{CONFIG_MAPS}?watch=1", {"Authorization": f"Bearer {cluster.token}"}
    deaf = [cluster.connect() for _ in range(DEAF)]
    names = [f"big-{number}" for number in range(WRITES)]
    seen: list[list[str]] = []

    def read(watch: Watch) -> None:
        seen.append([watch.next()[1]["metadata"]["name"] for _ in names])

    try:
        for connection in deaf:
            connection.request("GET", path, headers=headers)
        with ExitStack() as stack:
            readers = [stack.enter_context(watching(cluster, path)) for _ in range(WATCHERS - DEAF)]
            threads = [threading.Thread(target=read, args=(reader,)) for reader in readers]
            for thread in threads:
                thread.start()
            for name in names:
                assert cluster.request("POST", CONFIG_MAPS, config_map(name, None, text="x" * 200_000)).code == 201
            for thread in threads:
                thread.join()
        assert seen == [names] * (WATCHERS - DEAF)
        for connection in deaf:
            assert lines_until_cut_off(connection) < WRITES
    finally:
        for connection in deaf:
            connection.close()
        cluster.stop()


def lines_until_cut_off(connection: http.client.HTTPSConnection) -> int:
    lines = 0
    with pytest.raises((http.client.IncompleteRead, ConnectionError, OSError)):
        response = connection.getresponse()
        while received := response.read1(1 << 20):
            lines += received.count(b"\n")
        raise ConnectionError("the stream ended")
    return lines
