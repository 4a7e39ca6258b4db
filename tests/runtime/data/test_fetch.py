"""Fetching over HTTP from a server that misbehaves, and the addresses that are refused."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from kaito.runtime.data.address import AddressForbidden, is_allowed, parse_allowed, without_secrets
from kaito.runtime.data.fetch import Fetcher
from kaito.runtime.errors import InputError, StepError

LOOPBACK = parse_allowed("127.0.0.0/8")
CONTENT = bytes(range(256)) * 4096  # 1 MiB


class Origin:
    """A web server whose answers a test sets: path -> handler."""

    def __init__(self) -> None:
        self.handlers: dict[str, Callable[[web.Request], Awaitable[web.StreamResponse]]] = {}
        self.requests: list[web.Request] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        handler = self.handlers.get(request.path)
        return await handler(request) if handler else web.Response(status=404)

    def gives(self, path: str, content: bytes) -> None:
        async def handler(request: web.Request) -> web.StreamResponse:
            return web.Response(body=content)

        self.handlers[path] = handler


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    made = Origin()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", made.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


def fetcher(folder: Path, **more: object) -> Fetcher:
    async def at_once(seconds: float) -> None:
        return None

    return Fetcher(folder, LOOPBACK, sleep=at_once, **more)  # type: ignore[arg-type]  # only the fields that a test sets


async def test_many_files_keep_their_names_apart(origin: Origin, tmp_path: Path) -> None:
    origin.gives("/a/train.jsonl", b"one")
    origin.gives("/b/train.jsonl", b"two")
    paths = await fetcher(tmp_path).fetch([f"{origin.url}/a/train.jsonl", f"{origin.url}/b/train.jsonl?download=true"])
    assert [path.read_bytes() for path in paths] == [b"one", b"two"]
    assert [path.name for path in paths] == ["000-train.jsonl", "001-train.jsonl"]


async def test_a_broken_download_resumes_by_range(origin: Origin, tmp_path: Path) -> None:
    async def half(request: web.Request) -> web.StreamResponse:
        if "Range" in request.headers:
            start = int(request.headers["Range"].removeprefix("bytes=").rstrip("-"))
            assert request.headers["If-Range"] == '"v1"'
            return web.Response(status=206, body=CONTENT[start:], headers={"ETag": '"v1"'})
        response = web.StreamResponse(headers={"ETag": '"v1"', "Content-Length": str(len(CONTENT))})
        await response.prepare(request)
        await response.write(CONTENT[: len(CONTENT) // 2])
        assert request.transport is not None
        request.transport.close()
        return response

    origin.handlers["/f"] = half
    (path,) = await fetcher(tmp_path).fetch([f"{origin.url}/f"])
    assert path.read_bytes() == CONTENT
    assert len(origin.requests) == 2


async def test_a_changed_file_starts_again(origin: Origin, tmp_path: Path) -> None:
    (tmp_path / "000-f.part").write_bytes(b"old half")
    (tmp_path / "000-f.etag").write_text('"v0"')
    origin.gives("/f", b"new content")  # 200 though a range was asked for: If-Range did not match
    (path,) = await fetcher(tmp_path).fetch([f"{origin.url}/f"])
    assert path.read_bytes() == b"new content"


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_trouble_is_tried_again(status: int, origin: Origin, tmp_path: Path) -> None:
    async def twice(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status) if len(origin.requests) < 3 else web.Response(body=b"at last")

    origin.handlers["/f"] = twice
    (path,) = await fetcher(tmp_path).fetch([f"{origin.url}/f"])
    assert path.read_bytes() == b"at last"


async def test_lasting_trouble_is_a_step_error(origin: Origin, tmp_path: Path) -> None:
    async def never(request: web.Request) -> web.StreamResponse:
        return web.Response(status=503)

    origin.handlers["/f"] = never
    with pytest.raises(StepError) as caught:
        await fetcher(tmp_path, tries=3).fetch([f"{origin.url}/f?sig=secret"])
    assert caught.value.reason == "DataUnreachable"
    assert "503" in caught.value.message
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    ("status", "reason"), [(404, "DataNotFound"), (410, "DataNotFound"), (401, "DataForbidden"), (403, "DataForbidden")]
)
async def test_what_no_retry_mends(status: int, reason: str, origin: Origin, tmp_path: Path) -> None:
    async def refuse(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status)

    origin.handlers["/f"] = refuse
    with pytest.raises(InputError) as caught:
        await fetcher(tmp_path).fetch([f"{origin.url}/f"])
    assert caught.value.reason == reason
    assert str(status) in caught.value.message
    assert f"{origin.url}/f" in caught.value.message
    assert len(origin.requests) == 1


async def test_redirects_are_followed_and_each_is_checked(origin: Origin, tmp_path: Path) -> None:
    async def away(request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound(request.query["to"])

    origin.handlers["/go"] = away
    origin.gives("/f", b"here")
    (path,) = await fetcher(tmp_path / "one").fetch([f"{origin.url}/go?to=/f"])
    assert path.read_bytes() == b"here"
    for target in (
        "http://169.254.169.254/latest/meta-data",
        "http://10.0.0.1/",
        "file:///etc/passwd",
        "http://[::1]/",
    ):
        with pytest.raises(InputError):
            await fetcher(tmp_path / "two").fetch([f"{origin.url}/go?to={target}"])


async def test_a_circle_of_redirects_ends(origin: Origin, tmp_path: Path) -> None:
    async def around(request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound("/around")

    origin.handlers["/around"] = around
    with pytest.raises(InputError, match="redirects more than"):
        await fetcher(tmp_path).fetch([f"{origin.url}/around"])


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost/x",
        "http://127.0.0.1/x",
        "http://127.1.2.3:8080/x",
        "http://[::1]/x",
        "http://[::ffff:127.0.0.1]/x",
        "http://10.1.2.3/x",
        "http://192.168.0.1/x",
        "http://172.16.0.1/x",
        "http://169.254.169.254/latest",
        "http://168.63.129.16/x",
        "http://100.64.0.1/x",
        "http://0.0.0.0/x",
        "http://[fd00::1]/x",
        "http://[fe80::1]/x",
        "http://[64:ff9b::7f00:1]/x",
        "ftp://example.com/x",
        "file:///etc/passwd",
        "http:///x",
        "http://a:b:c/x",
        "nonsense",
    ],
)
async def test_forbidden_places(url: str, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        await Fetcher(tmp_path).fetch([url])


async def test_a_name_that_leads_inside_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AddressForbidden, match="localhost"):
        await Fetcher(tmp_path, parse_allowed("10.0.0.0/8")).fetch(["http://localhost:1/x"])


@pytest.mark.parametrize(
    ("address", "allowed", "expected"),
    [
        ("8.8.8.8", "", True),
        ("2606:4700::1", "", True),
        ("10.0.0.5", "10.0.0.0/8", True),
        ("10.0.0.5", "192.168.0.0/16", False),
        ("::ffff:10.0.0.5", "10.0.0.0/8", True),
        ("169.254.169.254", "10.0.0.0/8", False),
        ("224.0.0.1", "", False),
    ],
)
def test_is_allowed(address: str, allowed: str, expected: bool) -> None:
    assert is_allowed(ipaddress.ip_address(address), parse_allowed(allowed)) is expected


def test_a_wrong_network_is_wrong_input() -> None:
    with pytest.raises(InputError, match="no network"):
        parse_allowed("10.0.0.0/8, nonsense")


def test_urls_are_shown_without_secrets() -> None:
    assert without_secrets("https://user:pw@host/a/b?sig=1") == "https://host/a/b"


async def test_a_checksum_is_checked(origin: Origin, tmp_path: Path) -> None:
    origin.gives("/a.jsonl", CONTENT)
    right = hashlib.sha256(CONTENT).hexdigest()
    (path,) = await fetcher(tmp_path / "right").fetch([f"{origin.url}/a.jsonl#sha256={right.upper()}"])
    assert path.read_bytes() == CONTENT
    wrong = "0" * 64
    with pytest.raises(InputError) as caught:
        await fetcher(tmp_path / "wrong").fetch([f"{origin.url}/a.jsonl?sig=s3cret#sha256={wrong}"])
    assert caught.value.reason == "DataChecksumWrong"
    assert right in caught.value.message
    assert "s3cret" not in caught.value.message
    assert not list((tmp_path / "wrong").iterdir())
    with pytest.raises(InputError, match="64 hex digits"):
        await fetcher(tmp_path / "short").fetch([f"{origin.url}/a.jsonl#sha256=12"])


async def test_bytes_damaged_on_the_way_are_fetched_again(origin: Origin, tmp_path: Path) -> None:
    async def damaged_once(request: web.Request) -> web.Response:
        return web.Response(body=CONTENT if len(origin.requests) > 1 else CONTENT[::-1])

    origin.handlers["/a"] = damaged_once
    (path,) = await fetcher(tmp_path).fetch([f"{origin.url}/a#sha256={hashlib.sha256(CONTENT).hexdigest()}"])
    assert path.read_bytes() == CONTENT


async def test_the_secret_goes_to_the_named_server_and_not_beyond(origin: Origin, tmp_path: Path) -> None:
    elsewhere = origin.url.replace("127.0.0.1", "127.0.0.2")

    async def away(request: web.Request) -> web.Response:
        raise web.HTTPFound(f"{elsewhere}/b")

    async def within(request: web.Request) -> web.Response:
        raise web.HTTPFound("/a")

    origin.handlers |= {"/a": away, "/first": within}
    origin.gives("/b", CONTENT)
    with pytest.raises((InputError, StepError)):  # nobody listens there; what matters is what was sent where
        await fetcher(tmp_path, authorization="Bearer s3cret", tries=1).fetch([f"{origin.url}/first"])
    sent = {request.path: request.headers.get("Authorization") for request in origin.requests}
    assert sent == {"/first": "Bearer s3cret", "/a": "Bearer s3cret"}
    made = Fetcher(tmp_path, LOOPBACK, authorization="Bearer s3cret")
    assert made._may_know("https://a.example/x", "https://a.example/y")
    assert not made._may_know("https://b.example/x", "https://a.example/y")
    assert not made._may_know("https://a.example:444/x", "https://a.example/y")
    open_network = Fetcher(tmp_path, (), authorization="Bearer s3cret")
    assert not open_network._may_know("http://a.example/x", "http://a.example/x")


async def test_files_are_asked_for_as_they_are(origin: Origin, tmp_path: Path) -> None:
    """A server that compresses on the way would make a file that was compressed twice, with another checksum."""
    origin.gives("/a.gz", CONTENT)
    await fetcher(tmp_path).fetch([f"{origin.url}/a.gz"])
    assert origin.requests[0].headers["Accept-Encoding"] == "identity"
