"""From an HTTP request to a verb: authentication, authorization, the URL, the options, the answer.

One entry for every request. What fails on the way is a StatusError, and becomes its Status here.
"""

from __future__ import annotations

import logging
import ssl
import time
from dataclasses import dataclass
from functools import partial

from aiohttp import web

from kaito.local.apiserver import body as bodies
from kaito.local.apiserver.answer import Accepted, encode, item, parse_accept, respond, respond_error, success
from kaito.local.apiserver.auth import ADMIN, Authenticator, impersonated
from kaito.local.apiserver.call import Call, User
from kaito.local.apiserver.config import ServerConfig
from kaito.local.apiserver.delete import Deleter
from kaito.local.apiserver.documents import Documents
from kaito.local.apiserver.options import delete_options, list_options, write_options
from kaito.local.apiserver.patching import change_of, patch
from kaito.local.apiserver.path import ResourcePath, parse_path
from kaito.local.apiserver.rbac import Attributes, Authorizer
from kaito.local.apiserver.read import Reader, Selection
from kaito.local.apiserver.resources import Resource, Resources
from kaito.local.apiserver.reviews import Reviews
from kaito.local.apiserver.scale import rescale, scale_of_record
from kaito.local.apiserver.subresources import Subresources
from kaito.local.apiserver.watch import Watch
from kaito.local.apiserver.write import Writer, Written
from kaito.local.machinery import errors
from kaito.local.store.errors import WriteFailed
from kaito.local.store.records import Object
from kaito.local.store.store import Store

log = logging.getLogger(__name__)

VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}
OWN_SUBRESOURCES = frozenset({"", "status", "scale"})


@dataclass(frozen=True)
class Api:
    """The request handler. Its parts are made by `server.ApiServer`."""

    config: ServerConfig
    store: Store
    resources: Resources
    documents: Documents
    reader: Reader
    writer: Writer
    deleter: Deleter
    reviews: Reviews
    subresources: Subresources
    authenticator: Authenticator
    authorizer: Authorizer

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        warnings: list[str] = []
        try:
            return await self._dispatch(request, warnings)
        except errors.StatusError as error:
            return respond_error(error, warnings)
        except WriteFailed as error:
            return respond_error(errors.internal(str(error)), warnings)
        except (ConnectionError, ssl.SSLError):
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=499)  # the client is gone; nobody reads this
        except Exception as error:
            log.exception("a request failed: %s %s", request.method, request.path)
            return respond_error(errors.internal(type(error).__name__), warnings)

    async def _dispatch(self, request: web.BaseRequest, warnings: list[str]) -> web.StreamResponse:
        raw_path = request.raw_path.partition("?")[0]  # as it was sent: nothing has resolved its dots
        path = parse_path(raw_path)
        if self.documents.is_public(raw_path):
            return self.documents.serve(raw_path, request)
        user = self._user(request)
        if path is None:
            self._authorize(user, Attributes(verb=request.method.lower(), path=raw_path))
            return self.documents.serve(raw_path, request)
        resource = self.resources.find(path.group, path.version, path.plural)
        verb = self._verb(request, path)
        self._authorize(
            user,
            Attributes(verb, path.group, path.plural, path.subresource, path.namespace, path.name),
        )
        if resource is None and not self.resources.serves(path.group, path.version):
            raise errors.PageNotFound()
        if resource is None or (path.namespace and not resource.info.namespaced):
            raise errors.path_not_found()
        if path.subresource and path.subresource not in resource.info.subresources:
            if path.subresource in OWN_SUBRESOURCES and resource.crd:
                raise errors.not_found(path.group, path.plural, path.name)
            raise errors.path_not_found()
        return await self._verb_answer(request, resource, path, verb, user, warnings)

    def _verb(self, request: web.BaseRequest, path: ResourcePath) -> str:
        if request.method in ("GET", "HEAD"):
            if not path.name and request.query.get("watch", "") in ("1", "true", "True", "t"):
                return "watch"
            return "get" if path.name else "list"
        if request.method == "DELETE":
            return "delete" if path.name else "deletecollection"
        verb = VERBS.get(request.method)
        if verb is None:
            raise errors.method_not_allowed()
        return verb

    def _user(self, request: web.BaseRequest) -> User:
        """Of the token, or the one that its holder may speak for (`kubectl --as`)."""
        user = self.authenticator.user(request.headers.get("Authorization", ""), self.config.clock())
        name = request.headers.get("Impersonate-User", "")
        if not name:
            return user
        groups = request.headers.getall("Impersonate-Group", [])
        self._authorize(user, Attributes("impersonate", resource="users", name=name))
        for group in groups:
            self._authorize(user, Attributes("impersonate", resource="groups", name=group))
        return impersonated(name, groups)

    def _authorize(self, user: User, wanted: Attributes) -> None:
        allowed, _ = self.authorizer.decide(user, wanted)
        if self.config.audit is not None:
            self.config.audit(user, wanted, allowed)
        if allowed:
            return
        if wanted.path:
            message = f'forbidden: User "{user.name}" cannot {wanted.verb} path "{wanted.path}"'
            raise errors.StatusError(403, "Forbidden", message, {})
        where = f'in the namespace "{wanted.namespace}"' if wanted.namespace else "at the cluster scope"
        message = (
            f'User "{user.name}" cannot {wanted.verb} resource "{wanted.target}" in API group "{wanted.group}" {where}'
        )
        raise errors.forbidden(wanted.group, wanted.resource, wanted.name, message)

    async def _verb_answer(
        self,
        request: web.BaseRequest,
        resource: Resource,
        path: ResourcePath,
        verb: str,
        user: User,
        warnings: list[str],
    ) -> web.StreamResponse:
        info = resource.info
        if path.subresource not in OWN_SUBRESOURCES:
            call = self._call(request, resource, path, user, warnings)
            return await self.subresources.serve(request, call, path.rest)
        if path.subresource and verb not in ("get", "update", "patch"):
            raise errors.method_not_allowed()
        if not path.subresource and verb not in info.verbs:
            raise errors.method_not_allowed()
        accepted = parse_accept(request.headers.get("Accept", ""))
        if verb in ("get", "list", "watch"):
            return await self._read(request, resource, path, verb, accepted)
        call = self._call(request, resource, path, user, warnings)
        if verb == "create":
            return await self._create(request, call, accepted)
        if verb in ("update", "patch"):
            return await self._update(request, call, accepted, verb)
        return await self._delete(request, call, accepted, verb)

    def _call(
        self, request: web.BaseRequest, resource: Resource, path: ResourcePath, user: User, warnings: list[str]
    ) -> Call:
        options = write_options(request.query, request.headers.get("User-Agent", ""))
        return Call(resource, path.namespace, path.name, path.subresource, options, user, self.config.clock(), warnings)

    async def _read(
        self, request: web.BaseRequest, resource: Resource, path: ResourcePath, verb: str, accepted: Accepted
    ) -> web.StreamResponse:
        include, now = request.query.get("includeObject", ""), self.config.clock()
        if verb == "get":
            record = self.reader.get(resource, path.namespace, path.name)
            if path.subresource == "scale":
                call = self._call(request, resource, path, ADMIN, [])
                return respond(encode(scale_of_record(call, record)), accepted=accepted, warnings=[])
            body = self.reader.present(resource, record, accepted, include, now)
            return respond(body, accepted=accepted, warnings=[])
        options = list_options(request.query)
        if verb == "watch":
            selection = Selection(resource, path.namespace, options, path.name)
            watch = Watch(self.store, self.config, resource, selection, options, accepted, include)
            return await watch.serve(request, time.monotonic)
        body = self.reader.page(resource, path.namespace, options, accepted=accepted, include=include, now=now)
        return respond(body, accepted=accepted, warnings=[])

    async def _create(self, request: web.BaseRequest, call: Call, accepted: Accepted) -> web.Response:
        info = call.resource.info
        if call.name or (info.namespaced and not call.namespace):
            raise errors.method_not_allowed()
        body = await bodies.read_body(request, self.config.body_limit)
        obj = self._decode(request, call, body)
        if info.verbs == ("create",):
            self.writer.check_review(call, obj)
            return respond(encode(self.reviews.answer(call, obj)), accepted=accepted, code=201, warnings=call.warnings)
        return self._answer(call, await self.writer.create(call, obj), accepted)

    async def _update(self, request: web.BaseRequest, call: Call, accepted: Accepted, verb: str) -> web.Response:
        info = call.resource.info
        if not call.name or (info.namespaced and not call.namespace):
            raise errors.method_not_allowed()
        body = await bodies.read_body(request, self.config.body_limit)
        if call.subresource == "scale":
            return await self._rescale(request, call, accepted, body)
        if verb == "patch":
            given = bool(request.query.get("fieldManager"))
            create = Attributes("create", info.group, info.plural, namespace=call.namespace, name=call.name)
            may_create = partial(self._authorize, call.user, create)
            written = await patch(self.writer, call, bodies.media_type(request), body, given, may_create)
            return self._answer(call, written, accepted)
        obj = self._decode(request, call, body)
        written = await self.writer.update(call, lambda _live: dict(obj, metadata=dict(obj.get("metadata") or {})))
        return self._answer(call, written, accepted)

    async def _rescale(self, request: web.BaseRequest, call: Call, accepted: Accepted, body: bytes) -> web.Response:
        if request.method == "PATCH":
            change = change_of(call, bodies.media_type(request), bodies.decode_json(body))
        else:
            scale = bodies.decode_object(body, bodies.media_type(request))

            def change(_live: Object) -> Object:
                return scale

        written = await self.writer.update(call, rescale(call, change))
        answer = encode(scale_of_record(call, written.record))
        return respond(answer, accepted=accepted, warnings=call.warnings)

    async def _delete(self, request: web.BaseRequest, call: Call, accepted: Accepted, verb: str) -> web.Response:
        raw = await bodies.read_body(request, self.config.body_limit)
        sent = bodies.decode_object(raw, bodies.media_type(request)) if raw.strip() else None
        options = delete_options(request.query, sent)
        info = call.resource.info
        if verb == "deletecollection":
            selection = Selection(call.resource, call.namespace, list_options(request.query))
            deleted = await self.deleter.delete_selected(call, options, selection)
            head: Object = {"kind": info.list_kind, "apiVersion": info.api_version}
            head["metadata"] = {"resourceVersion": str(self.store.revision)}
            if info.crd:
                head["metadata"]["continue"] = ""
            items = b",".join(item(call.resource, record) for record in deleted)
            body = b"".join((encode(head)[:-1], b',"items":[', items, b"]}"))
            return respond(body, accepted=accepted, warnings=call.warnings)
        written, gone = await self.deleter.delete(call, options)
        if gone and not call.resource.strategy.deletes_return_object:
            details = {"name": call.name, "group": info.group, "kind": info.plural}
            uid = written.record.value["metadata"]["uid"]
            status = success(**{name: value for name, value in details.items() if value}, uid=uid)
            return respond(encode(status), accepted=accepted, warnings=call.warnings)
        return self._answer(call, written, accepted)

    def _decode(self, request: web.BaseRequest, call: Call, body: bytes) -> Object:
        content_type = bodies.media_type(request)
        obj = bodies.decode_object(body, content_type)
        validation = request.query.get("fieldValidation", "")
        if validation in ("Strict", "Warn") and content_type in ("", bodies.JSON):
            self.writer.report_fields(call, bodies.duplicate_fields(body))
        return obj

    def _answer(self, call: Call, written: Written, accepted: Accepted) -> web.Response:
        code = 201 if written.created else 200
        body = self.reader.present(call.resource, written.record, accepted, "", call.now)
        return respond(body, accepted=accepted, code=code, warnings=call.warnings)
