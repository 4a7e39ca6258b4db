"""PersistentVolumeClaims as folders: bound at once, removed with their claim."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from pathlib import Path

from kaito.kube.client import Client
from kaito.kube.controller import Controller
from kaito.kube.errors import NotFound
from kaito.kube.informer import Informer
from kaito.kube.store import split_key
from kaito.local.agent.volumes import claim_folder
from kaito.local.agent.world import CLAIMS, Object


class ClaimKeeper:
    """Binds claims to `folder/<namespace>/<name>`. `controller` is to be run by the owner."""

    def __init__(self, client: Client, claims: Informer[Object], folder: Path) -> None:
        self._client = client
        self._claims = claims
        self._folder = folder
        self.controller = Controller("claims", self._sync, workers=1)
        self.controller.watch(claims)

    async def _sync(self, key: str) -> None:
        namespace, name = split_key(key)
        claim, folder = self._claims.store.get(key), claim_folder(self._folder, namespace, name)
        if claim is None:
            # The API has let the claim go, which it does only when nothing protects it any more.
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
            return
        if claim["metadata"].get("deletionTimestamp") or (claim.get("status") or {}).get("phase") == "Bound":
            return
        folder.mkdir(parents=True, exist_ok=True)
        spec = claim.get("spec") or {}
        requested = ((spec.get("resources") or {}).get("requests") or {}).get("storage", "1Gi")
        status = {
            "phase": "Bound",
            "accessModes": spec.get("accessModes") or ["ReadWriteOnce"],
            "capacity": {"storage": requested},
        }
        with contextlib.suppress(NotFound):
            await self._client.patch(CLAIMS, name, {"status": status}, namespace, subresource="status")
