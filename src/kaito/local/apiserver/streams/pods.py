"""A pod's subresources that stream, each through the node agent's `PodBackend`."""

from __future__ import annotations

from aiohttp import web

from kaito.local.apiserver.call import Call
from kaito.local.apiserver.streams.execute import serve_command
from kaito.local.apiserver.streams.logs import stream_logs
from kaito.local.apiserver.streams.portforward import serve_ports
from kaito.local.apiserver.streams.proxy import PodProxy
from kaito.local.backend import PodBackend
from kaito.local.machinery import errors
from kaito.local.store.records import Object


class PodStreams:
    def __init__(self) -> None:
        self.backend: PodBackend | None = None
        self._proxy = PodProxy()

    async def serve(self, request: web.BaseRequest, call: Call, pod: Object, rest: str) -> web.StreamResponse:
        if call.subresource == "proxy":
            return await self._proxy.forward(request, call, pod, rest)
        if self.backend is None:
            raise errors.unavailable(
                f"no node agent is connected, so pods/{call.subresource} cannot be served; start it with `kaito up`"
            )
        if call.subresource == "log":
            return await stream_logs(self.backend, request, call, pod)
        if call.subresource in ("exec", "attach"):
            return await serve_command(self.backend, request, call, pod)
        return await serve_ports(self.backend, request, call)

    async def close(self) -> None:
        await self._proxy.close()
