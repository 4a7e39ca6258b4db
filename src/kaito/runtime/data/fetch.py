"""Files from URLs: several at once, resumed by range, tried again, each under a name of its own.

A URL may end with `#sha256=<64 hex digits>`, as package indexes write it: the file is then checked. An `Authorization`
header goes to the servers that the URLs name and to nobody whom they redirect to.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import aiohttp

from kaito.runtime.data.address import GuardedResolver, Network, check_url, without_secrets
from kaito.runtime.errors import InputError, StepError

CHUNK = 1 << 20  # bytes
AT_ONCE = 4
MAX_REDIRECTS = 10
RETRY_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})

Moved = Callable[[int, int | None], None]  # bytes moved, and bytes newly known to be in the whole


class _TryAgain(Exception):
    """This attempt failed in a way that the next one may not."""


class _ChecksumWrong(_TryAgain):
    """The bytes are not those that the URL's checksum names: damaged on the way, or simply others."""


@dataclass
class Fetcher:
    """Fetches into a folder. `sleep` and `chance` are inputs so that tests need not wait."""

    folder: Path
    allowed: Sequence[Network] = ()
    tries: int = 6
    read_timeout: float = 60.0  # seconds without a byte
    authorization: str = ""
    """The value of the header, for the servers that the URLs name."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    chance: Callable[[], float] = random.random
    moved: Moved = field(default=lambda count, total: None)

    async def fetch(self, urls: Sequence[str]) -> list[Path]:
        """All files, in the order of the URLs. Raises InputError for what no retry mends, StepError otherwise."""
        for url in urls:
            check_url(url, self.allowed)
            _checksum(url)
        self.folder.mkdir(parents=True, exist_ok=True)
        connector = aiohttp.TCPConnector(resolver=GuardedResolver(self.allowed), limit=AT_ONCE)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=20, sock_read=self.read_timeout)
        gate = asyncio.Semaphore(AT_ONCE)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as http:

            async def one(index: int, url: str) -> Path:
                async with gate:
                    return await self._fetch_one(http, url, self.folder / file_name(index, url))

            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(one(index, url)) for index, url in enumerate(urls)]
            except* (InputError, StepError) as errors:
                raise errors.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _fetch_one(self, http: aiohttp.ClientSession, url: str, target: Path) -> Path:
        if target.exists():
            return target  # complete: it was renamed into place
        trouble, wrong = "", 0
        for attempt in range(self.tries):
            if attempt:
                await self.sleep(min(30.0, 0.5 * 2**attempt) * (1 - self.chance() / 2))
            try:
                await self._attempt(http, url, target)
            except _ChecksumWrong as error:
                trouble, wrong = str(error), wrong + 1
                if wrong > 1:  # twice the same is no accident
                    hint = "correct the checksum in tuning.input.urls, or find out who changed the file"
                    message = f"the checksum of {without_secrets(url)} does not match: {error}"
                    raise InputError("DataChecksumWrong", message, hint) from error
                continue
            except (_TryAgain, aiohttp.ClientError, TimeoutError) as error:
                trouble = "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
                continue
            return target
        raise StepError(
            "DataUnreachable",
            f"{without_secrets(url)} cannot be fetched: {_without_url(trouble, url)}",
            "check the URL and the network; the step tries again",
        )

    async def _attempt(self, http: aiohttp.ClientSession, url: str, target: Path) -> None:
        part, tag_file = target.with_name(target.name + ".part"), target.with_name(target.name + ".etag")
        have = part.stat().st_size if part.exists() else 0
        tag = tag_file.read_text() if have and tag_file.exists() else ""
        headers = {"Accept-Encoding": "identity"}  # the file as it lies there: its own compression is kept
        if tag:
            headers |= {"Range": f"bytes={have}-", "If-Range": tag}
        async with await self._open(http, url, headers) as answer:
            resumed = answer.status == 206
            if answer.status == 416:  # the part is longer than the file, so it is another file's
                part.unlink()
                raise _TryAgain("the server refused to resume")
            _check_status(answer, url)
            new_tag = answer.headers.get("ETag", "")
            tag_file.write_text("" if new_tag.startswith("W/") else new_tag)
            self.moved(have if resumed else 0, answer.content_length)
            with part.open("ab" if resumed else "wb") as file:
                async for chunk in answer.content.iter_chunked(CHUNK):
                    file.write(chunk)
                    self.moved(len(chunk), None)
        tag_file.unlink(missing_ok=True)
        _check_content(part, _checksum(url))
        part.replace(target)

    async def _open(self, http: aiohttp.ClientSession, url: str, headers: dict[str, str]) -> aiohttp.ClientResponse:
        """Follow redirects by hand, because each next address must pass the same check as the first."""
        first = url
        for _ in range(MAX_REDIRECTS):
            check_url(url, self.allowed)
            own = {"Authorization": self.authorization} if self._may_know(url, first) else {}
            answer = await http.get(url, headers={**headers, **own}, allow_redirects=False)
            if answer.status not in (301, 302, 303, 307, 308) or "Location" not in answer.headers:
                return answer
            url = urljoin(url, answer.headers["Location"])
            answer.release()
        raise InputError("DataNotFound", f"{without_secrets(url)} redirects more than {MAX_REDIRECTS} times")

    def _may_know(self, url: str, first: str) -> bool:
        """Whether the server of `url` gets the secret: the one that was named, over https or in an allowed network."""
        if not self.authorization or _origin(url) != _origin(first):
            return False
        return urlsplit(url).scheme == "https" or bool(self.allowed)


def _check_status(answer: aiohttp.ClientResponse, url: str) -> None:
    status, shown = answer.status, without_secrets(url)
    if status in (200, 206):
        return
    if status in RETRY_STATUS:
        raise _TryAgain(f"the server answers {status} {answer.reason}")
    if status in (404, 410):
        raise InputError(
            "DataNotFound", f"{shown} answers {status} {answer.reason}", "correct the URL in tuning.input.urls"
        )
    if status in (401, 403):
        raise InputError(
            "DataForbidden",
            f"{shown} answers {status} {answer.reason}",
            "use a signed URL, or name a Secret with the key authorization in the annotation kaito.sh/data-secret",
        )
    raise InputError(
        "DataNotFound", f"{shown} answers {status} {answer.reason}", "correct the URL in tuning.input.urls"
    )


def _checksum(url: str) -> str:
    """The sha256 in the URL's fragment, in lower case; empty when there is none. Raises InputError."""
    name, _, value = urlsplit(url).fragment.partition("=")
    if name.lower() != "sha256":
        return ""
    if not re.fullmatch(r"[0-9A-Fa-f]{64}", value):
        raise InputError(
            "DataUrlInvalid", f"{without_secrets(url)}: its #sha256= is not followed by 64 hex digits", "correct it"
        )
    return value.lower()


def _check_content(path: Path, wanted: str) -> None:
    if not wanted:
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != wanted:
        path.unlink()
        raise _ChecksumWrong(f"its sha256 is {found}, not {wanted}")


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


def file_name(index: int, url: str) -> str:
    """A name for the file: its place in the list, which keeps names apart, and what the URL calls it."""
    last = unquote(urlsplit(url).path).rstrip("/").rpartition("/")[2]
    return f"{index:03d}-{re.sub(r'[^A-Za-z0-9._-]', '_', last)[-100:] or 'data'}"


def fingerprint(*parts: object) -> str:
    """A digest of what a data set is made from, to know it again after a restart."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _without_url(text: str, url: str) -> str:
    return text.replace(url, without_secrets(url))
