"""The log of a container, whole or followed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from aiohttp import web

from kaito.local.apiserver.call import Call
from kaito.local.backend import BackendError, LogOptions, PodBackend
from kaito.local.machinery import errors
from kaito.local.store.records import Object

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"


async def stream_logs(backend: PodBackend, request: web.BaseRequest, call: Call, pod: Object) -> web.StreamResponse:
    if request.method != "GET":
        raise errors.method_not_allowed()
    options = log_options(request.query, chosen_container(call, pod, request.query.get("container", "")), call.now)
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    chunks = backend.logs(call.namespace, call.name, options)
    try:
        # The first chunk decides whether this is an answer or an error, so it comes before the headers.
        first = await anext(chunks, None)
        await response.prepare(request)
        if first is not None:
            await response.write(first)
            async for chunk in chunks:
                await response.write(chunk)
    except BackendError as error:
        raise backend_status(error) from error
    finally:
        close = getattr(chunks, "aclose", None)
        if close is not None:
            await close()
    return response


def log_options(query: Mapping[str, str], container: str, now: datetime) -> LogOptions:
    """PodLogOptions from the query. Raises 400."""
    since = _number(query, "sinceSeconds")
    if query.get("sinceTime"):
        try:
            start = datetime.fromisoformat(query["sinceTime"])
            since = max(1, int((now - start).total_seconds()))
        except (ValueError, TypeError) as error:
            raise errors.bad_request(f"sinceTime must be RFC 3339, not {query['sinceTime']!r}") from error
    return LogOptions(
        container=container,
        follow=_flag(query, "follow"),
        previous=_flag(query, "previous"),
        timestamps=_flag(query, "timestamps"),
        tail_lines=_number(query, "tailLines"),
        since_seconds=since,
        limit_bytes=_number(query, "limitBytes"),
    )


def chosen_container(call: Call, pod: Object, asked: str) -> str:
    """The container of a stream: the one asked for, or the only one. Raises 400 as Kubernetes does."""
    spec = pod.get("spec") or {}
    names = [one["name"] for one in spec.get("containers") or []]
    init = [one["name"] for one in spec.get("initContainers") or []]
    if asked:
        if asked not in (*names, *init):
            raise errors.bad_request(f"container {asked} is not valid for pod {call.name}")
        return asked
    if len(names) == 1 and not init:
        return str(names[0])
    default = (pod["metadata"].get("annotations") or {}).get(DEFAULT_CONTAINER)
    if default in (*names, *init):
        return str(default)
    if len(names) == 1:
        return str(names[0])
    message = f"a container name must be specified for pod {call.name}, choose one of: [{' '.join(names)}]"
    if init:
        message += f" or one of the init containers: [{' '.join(init)}]"
    raise errors.bad_request(message)


def backend_status(error: BackendError) -> errors.StatusError:
    reason = {400: "BadRequest", 404: "NotFound", 503: "ServiceUnavailable"}.get(error.code, "InternalError")
    return errors.StatusError(error.code, reason, str(error))


def _flag(query: Mapping[str, str], name: str) -> bool:
    return query.get(name, "") in ("true", "True", "1", "t")


def _number(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name, "")
    if not text:
        return None
    if not text.isascii() or not text.isdigit():
        raise errors.bad_request(f"{name} must be a whole number that is not negative, not {text!r}")
    return int(text)
