"""Who sends a request: the owner of the kubeconfig's token, or a pod's service account."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from datetime import datetime

import msgspec

from kaito.local.apiserver.call import User
from kaito.local.machinery.errors import unauthorized

ADMIN = User("kaito-admin", ("system:masters", "system:authenticated"))
ISSUER = "https://kubernetes.default.svc"
HEADER = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').rstrip(b"=")


class Claims(msgspec.Struct):
    """Of a service account's token (a JWT that this server signed itself)."""

    sub: str
    exp: int
    uid: str = ""
    iss: str = ISSUER
    aud: list[str] = []
    iat: int = 0


class Authenticator:
    def __init__(self, token: str, signing_key: bytes) -> None:
        self._token = token.encode()
        self._signing_key = signing_key

    def user(self, authorization: str, now: datetime) -> User:
        """Of the Authorization header. Raises 401."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise unauthorized()
        found = self.token_user(token.strip(), now)
        if found is None:
            raise unauthorized()
        return found

    def token_user(self, token: str, now: datetime) -> User | None:
        if hmac.compare_digest(token.encode(), self._token):
            return ADMIN
        claims = self._claims(token)
        if claims is None or claims.exp <= now.timestamp():
            return None
        return User(claims.sub, _groups(claims.sub), claims.uid)

    def issue(self, namespace: str, name: str, uid: str, now: datetime, seconds: int) -> str:
        """A token of the service account that is good for so many seconds."""
        issued = int(now.timestamp())
        claims = Claims(
            f"system:serviceaccount:{namespace}:{name}", issued + seconds, uid=uid, aud=[ISSUER], iat=issued
        )
        signed = HEADER + b"." + _encode(msgspec.json.encode(claims))
        return (signed + b"." + self._signature(signed)).decode()

    def _claims(self, token: str) -> Claims | None:
        signed, _, signature = token.encode().rpartition(b".")
        if not hmac.compare_digest(self._signature(signed), signature):
            return None
        try:
            body = signed.split(b".")[1]
            return msgspec.json.decode(base64.urlsafe_b64decode(body + b"=" * (-len(body) % 4)), type=Claims)
        except (IndexError, msgspec.DecodeError, binascii.Error):
            return None

    def _signature(self, signed: bytes) -> bytes:
        return _encode(hmac.new(self._signing_key, signed, hashlib.sha256).digest())


def impersonated(name: str, groups: list[str]) -> User:
    """The user that an administrator speaks for; a service account is in its groups by its name."""
    return User(name, (*groups, "system:authenticated") if groups else _groups(name))


def _groups(name: str) -> tuple[str, ...]:
    parts = name.split(":")
    if parts[:2] == ["system", "serviceaccount"] and len(parts) == 4:
        return ("system:serviceaccounts", f"system:serviceaccounts:{parts[2]}", "system:authenticated")
    return ("system:authenticated",)


def _encode(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")
