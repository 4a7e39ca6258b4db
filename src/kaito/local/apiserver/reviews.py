"""Reviews: kinds that are asked and answered, never stored (can-i, whoami, token reviews)."""

from __future__ import annotations

from kaito.local.apiserver.auth import Authenticator
from kaito.local.apiserver.call import Call, User
from kaito.local.apiserver.rbac import Attributes, Authorizer
from kaito.local.store.records import Object


class Reviews:
    def __init__(self, authenticator: Authenticator, authorizer: Authorizer) -> None:
        self._authenticator = authenticator
        self._authorizer = authorizer

    def answer(self, call: Call, obj: Object) -> Object:
        """The review with its status; the body is already checked against its schema."""
        kind, spec = call.resource.info.kind, obj.get("spec") or {}
        if kind == "SelfSubjectReview":
            status: Object = {"userInfo": user_info(call.user)}
        elif kind == "TokenReview":
            user = self._authenticator.token_user(str(spec.get("token") or ""), call.now)
            status = {"authenticated": True, "user": user_info(user)} if user else {"authenticated": False}
        elif kind == "SelfSubjectRulesReview":
            namespace = str(spec.get("namespace") or "")
            status = self._authorizer.rules(call.user, namespace)
        else:
            user = call.user if kind == "SelfSubjectAccessReview" else _subject(spec)
            allowed, reason = self._authorizer.decide(user, _attributes(spec))
            status = {"allowed": allowed, **({"reason": reason} if reason else {})}
        return {**obj, "status": status}


def user_info(user: User) -> Object:
    info: Object = {"username": user.name, "groups": list(user.groups)}
    if user.uid:
        info["uid"] = user.uid
    return info


def _subject(spec: Object) -> User:
    return User(str(spec.get("user") or ""), tuple(spec.get("groups") or ()), str(spec.get("uid") or ""))


def _attributes(spec: Object) -> Attributes:
    wanted = spec.get("resourceAttributes")
    if wanted is None:
        path = spec.get("nonResourceAttributes") or {}
        return Attributes(verb=path.get("verb", ""), path=path.get("path", ""))
    return Attributes(
        verb=wanted.get("verb", ""),
        group=wanted.get("group", ""),
        resource=wanted.get("resource", ""),
        subresource=wanted.get("subresource", ""),
        namespace=wanted.get("namespace", ""),
        name=wanted.get("name", ""),
    )
