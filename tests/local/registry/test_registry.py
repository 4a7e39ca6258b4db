"""The local registry: its protocol, its folder, its data folder, and what `kill -9` leaves."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from kaito.local.registry import Registry, RegistryCredentials, make_credentials

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


class Client:
    """Raw HTTP, because this tests the protocol itself."""

    def __init__(self, registry: Registry, http: aiohttp.ClientSession) -> None:
        self.base = f"http://{registry.name}"
        self.http = http

    async def call(self, method: str, path: str, **options: Any) -> tuple[int, dict[str, str], bytes]:
        async with self.http.request(method, self.base + path, **options) as answer:
            return answer.status, dict(answer.headers), await answer.read()

    async def push_blob(self, name: str, content: bytes) -> str:
        _, headers, _ = await self.call("POST", f"/v2/{name}/blobs/uploads/")
        status, _, _ = await self.call("PUT", f"{headers['Location']}?digest={digest(content)}", data=content)
        assert status == 201
        return digest(content)

    async def push_manifest(self, name: str, reference: str, **more: Any) -> tuple[int, str]:
        content = manifest(**more)
        status, _, _ = await self.call(
            "PUT", f"/v2/{name}/manifests/{reference}", data=content, headers={"Content-Type": MANIFEST}
        )
        return status, digest(content)


def login(credentials: RegistryCredentials) -> dict[str, str]:
    return {"Authorization": aiohttp.encode_basic_auth(credentials.username, credentials.password)}


def manifest(**more: Any) -> bytes:
    return json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "layers": [], **more}).encode()


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    made = Registry(tmp_path / "registry", data_dir=tmp_path / "data")
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def client(registry: Registry) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession(headers=login(registry.credentials)) as http:
        yield Client(registry, http)


async def test_credentials_are_made_once_and_written_privately(registry: Registry, tmp_path: Path) -> None:
    root = tmp_path / "registry"
    assert make_credentials(root) == make_credentials(root) == registry.credentials
    for name in ("config.json", "credentials.json"):
        assert (root / name).stat().st_mode & 0o777 == 0o600
    entry = json.loads((root / "config.json").read_text())["auths"][registry.name]
    assert base64.b64decode(entry["auth"]).decode() == f"kaito:{registry.credentials.password}"
    assert registry.credentials.password not in repr(registry.credentials)


@pytest.mark.parametrize("header", [None, "Basic wrong", "Basic a2FpdG86d3Jvbmc=", "Bearer x"])
async def test_without_the_password_nothing_is_served(header: str | None, registry: Registry) -> None:
    async with aiohttp.ClientSession(headers={"Authorization": header} if header else {}) as http:
        for path in ("/v2/", "/v2/_catalog", "/v2/a/tags/list"):
            async with http.get(f"http://{registry.name}{path}") as answer:
                assert answer.status == 401
                assert answer.headers["WWW-Authenticate"].startswith("Basic")


async def test_chunked_upload_resumes_where_it_stands(client: Client) -> None:
    content = os.urandom(100_000)
    _, headers, _ = await client.call("POST", "/v2/a/blobs/uploads/")
    place = headers["Location"]
    status, headers, _ = await client.call("PATCH", place, data=content[:40_000], headers={"Content-Range": "0-39999"})
    assert (status, headers["Range"]) == (202, "0-39999")
    status, headers, _ = await client.call("PATCH", place, data=b"x", headers={"Content-Range": "7-7"})
    assert (status, headers["Range"]) == (416, "0-39999")
    status, headers, _ = await client.call("GET", place)
    assert (status, headers["Range"]) == (204, "0-39999")
    await client.call("PATCH", place, data=content[40_000:], headers={"Content-Range": "40000-99999"})
    status, headers, _ = await client.call("PUT", f"{place}?digest={digest(content)}")
    assert status == 201
    status, headers, body = await client.call("GET", f"/v2/a/blobs/{digest(content)}")
    assert (status, body, headers["Docker-Content-Digest"]) == (200, content, digest(content))
    status, _, body = await client.call("GET", f"/v2/a/blobs/{digest(content)}", headers={"Range": "bytes=10-19"})
    assert (status, body) == (206, content[10:20])
    status, headers, body = await client.call("HEAD", f"/v2/a/blobs/{digest(content)}")
    assert (status, body, headers["Content-Length"]) == (200, b"", "100000")


async def test_whole_upload_in_one_post(client: Client) -> None:
    status, _, _ = await client.call("POST", f"/v2/a/blobs/uploads/?digest={digest(b'x')}", data=b"x")
    assert status == 201


async def test_wrong_content_is_refused(client: Client) -> None:
    _, headers, _ = await client.call("POST", "/v2/a/blobs/uploads/")
    status, _, body = await client.call("PUT", f"{headers['Location']}?digest={digest(b'good')}", data=b"evil")
    assert (status, json.loads(body)["errors"][0]["code"]) == (400, "DIGEST_INVALID")
    assert (await client.call("HEAD", f"/v2/a/blobs/{digest(b'good')}"))[0] == 404


async def test_a_blob_belongs_to_its_repository_until_it_is_mounted(client: Client) -> None:
    content = await client.push_blob("one", b"shared")
    assert (await client.call("HEAD", f"/v2/two/blobs/{content}"))[0] == 404
    status, _, _ = await client.call("POST", f"/v2/two/blobs/uploads/?mount={content}&from=one")
    assert status == 201
    assert (await client.call("HEAD", f"/v2/two/blobs/{content}"))[0] == 200
    assert (await client.call("DELETE", f"/v2/one/blobs/{content}"))[0] == 202
    assert (await client.call("GET", f"/v2/two/blobs/{content}"))[2] == b"shared"
    status, headers, _ = await client.call("POST", f"/v2/two/blobs/uploads/?mount={digest(b'absent')}&from=one")
    assert status == 202
    assert headers["Location"]


async def test_manifests_tags_and_deletion(client: Client) -> None:
    status, first = await client.push_manifest("team/a", "v1")
    assert status == 201
    await client.push_manifest("team/a", "v2", annotations={"x": "y"})
    status, headers, body = await client.call("GET", "/v2/team/a/manifests/v1")
    assert (status, headers["Content-Type"], digest(body)) == (200, MANIFEST, first)
    assert (await client.call("HEAD", f"/v2/team/a/manifests/{first}"))[1]["Docker-Content-Digest"] == first
    assert json.loads((await client.call("GET", "/v2/team/a/tags/list"))[2]) == {"name": "team/a", "tags": ["v1", "v2"]}
    _, headers, body = await client.call("GET", "/v2/team/a/tags/list?n=1")
    assert json.loads(body)["tags"] == ["v1"]
    assert "last=v1" in headers["Link"]
    assert json.loads((await client.call("GET", "/v2/_catalog"))[2]) == {"repositories": ["team/a"]}
    assert (await client.call("DELETE", f"/v2/team/a/manifests/{first}"))[0] == 202
    assert (await client.call("GET", "/v2/team/a/manifests/v1"))[0] == 404
    assert json.loads((await client.call("GET", "/v2/team/a/tags/list"))[2])["tags"] == ["v2"]


async def test_a_manifest_needs_its_blobs(client: Client) -> None:
    layer = {"mediaType": "x", "digest": digest(b"absent"), "size": 6}
    status, _ = await client.push_manifest("a", "v1", layers=[layer])
    assert status == 400
    await client.push_blob("a", b"absent")
    status, _ = await client.push_manifest("a", "v1", layers=[layer])
    assert status == 201


async def test_referrers(client: Client) -> None:
    _, subject = await client.push_manifest("a", "v1")
    described = {"mediaType": MANIFEST, "digest": subject, "size": 1}
    for kind in ("report", "signature"):
        content = manifest(artifactType=kind, subject=described)
        status, headers, _ = await client.call("PUT", f"/v2/a/manifests/{digest(content)}", data=content)
        assert (status, headers["OCI-Subject"]) == (201, subject)
    found = json.loads((await client.call("GET", f"/v2/a/referrers/{subject}"))[2])["manifests"]
    assert {one["artifactType"] for one in found} == {"report", "signature"}
    _, headers, body = await client.call("GET", f"/v2/a/referrers/{subject}?artifactType=report")
    (one,) = json.loads(body)["manifests"]
    assert headers["OCI-Filters-Applied"] == "artifactType"
    await client.call("DELETE", f"/v2/a/manifests/{one['digest']}")
    assert len(json.loads((await client.call("GET", f"/v2/a/referrers/{subject}"))[2])["manifests"]) == 1


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/UPPER/tags/list", 400),
        ("GET", "/v2/a/../b/tags/list", 400),
        ("GET", "/v2/a%2F..%2F..%2Fx/tags/list", 400),
        ("GET", "/v2/a/blobs/nonsense", 400),
        ("GET", "/v2/a/manifests/..", 404),
        ("PUT", "/v2/a/manifests/bad%20tag", 400),
        ("PATCH", "/v2/a/blobs/uploads/nonsense", 404),
        ("PATCH", "/v2/a/blobs/uploads/00000000-0000-0000-0000-000000000000", 404),
        ("PUT", "/v2/a/tags/list", 405),
        ("GET", "/v2/nothing/tags/list", 404),
        ("GET", "/v2/a/unknown", 404),
    ],
)
async def test_bad_requests(method: str, path: str, status: int, client: Client) -> None:
    from yarl import URL

    async with client.http.request(method, URL(client.base + path, encoded=True)) as answer:
        assert answer.status == status


async def test_the_data_folder_is_read_only_and_closed(registry: Registry, tmp_path: Path) -> None:
    from yarl import URL

    (tmp_path / "secret").write_text("secret")
    (tmp_path / "data" / "sub").mkdir()
    (tmp_path / "data" / "sub" / "a b.jsonl").write_bytes(b"0123456789")
    (tmp_path / "data" / "door").symlink_to(tmp_path / "secret")
    base = f"http://{registry.name}/data/"
    async with aiohttp.ClientSession() as http:  # no login: data-set URLs carry none
        async with http.get(base + "sub/a%20b.jsonl", headers={"Range": "bytes=2-4"}) as answer:
            assert (answer.status, await answer.read()) == (206, b"234")
        async with http.head(base + "sub/a%20b.jsonl") as answer:
            assert (answer.status, answer.headers["Content-Length"]) == (200, "10")
        for path in (
            "../secret",
            "%2e%2e/secret",
            "sub/..%2f..%2fsecret",
            "door",
            "sub",
            "",
            "absent",
            "%00",
            "//etc/passwd",
        ):
            async with http.get(URL(base + path, encoded=True)) as answer:
                assert answer.status == 404, path
        for method in ("PUT", "POST", "DELETE"):
            async with http.request(method, base + "sub/a%20b.jsonl") as answer:
                assert answer.status == 405
    assert (tmp_path / "data" / "sub" / "a b.jsonl").read_bytes() == b"0123456789"


SERVER = """
import asyncio, sys
from pathlib import Path
from kaito.local.registry import Registry
async def main():
    registry = Registry(Path(sys.argv[1]))
    await registry.start()
    print(registry.port, flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


async def test_kill_9_leaves_nothing_half(tmp_path: Path) -> None:
    """Push without end, kill at random moments; whatever a later server names, it has whole."""
    root, rng = tmp_path / "registry", random.Random(5)
    credentials = make_credentials(root)
    pushed = 0
    for round_number in range(5):
        server = subprocess.Popen([sys.executable, "-c", SERVER, str(root)], stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        base = f"http://127.0.0.1:{await asyncio.to_thread(server.stdout.readline)}".strip()
        asyncio.get_running_loop().call_later(rng.uniform(0.05, 0.4), server.send_signal, signal.SIGKILL)
        async with aiohttp.ClientSession(headers=login(credentials)) as http:
            try:
                for index in range(10_000):
                    content = f"{round_number}-{index}".encode() * 5_000
                    async with http.post(
                        f"{base}/v2/a/blobs/uploads/?digest={digest(content)}", data=content
                    ) as answer:
                        assert answer.status == 201
                    layer = {"mediaType": "x", "digest": digest(content), "size": len(content)}
                    body = manifest(layers=[layer])
                    async with http.put(f"{base}/v2/a/manifests/v{pushed}", data=body) as answer:
                        assert answer.status == 201
                    pushed += 1
            except aiohttp.ClientError:
                pass  # killed
        server.wait()
        server.stdout.close()
    registry = Registry(root)
    await registry.start()
    async with aiohttp.ClientSession(headers=login(credentials)) as http:
        client = Client(registry, http)
        tags = json.loads((await client.call("GET", "/v2/a/tags/list"))[2])["tags"]
        assert len(tags) >= pushed > 5
        for tag in tags:
            _, headers, body = await client.call("GET", f"/v2/a/manifests/{tag}")
            assert digest(body) == headers["Docker-Content-Digest"]
            layer = json.loads(body)["layers"][0]["digest"]
            assert digest((await client.call("GET", f"/v2/a/blobs/{layer}"))[2]) == layer
    await registry.stop()
