"""The API server as a whole: what `kaito up` starts, and the fixture of every controller's tests."""

from __future__ import annotations

import logging
from pathlib import Path

from aiohttp import web

from kaito.local.apiserver.addresses import ServiceAddresses
from kaito.local.apiserver.admission import BuiltinAdmission
from kaito.local.apiserver.api import Api
from kaito.local.apiserver.auth import Authenticator
from kaito.local.apiserver.bootstrap import create_first_objects
from kaito.local.apiserver.config import ServerConfig
from kaito.local.apiserver.crds import CrdRegistry
from kaito.local.apiserver.delete import Deleter
from kaito.local.apiserver.documents import Documents
from kaito.local.apiserver.pki import load_pki, write_kubeconfig
from kaito.local.apiserver.rbac import Authorizer
from kaito.local.apiserver.read import Reader
from kaito.local.apiserver.resources import Resources
from kaito.local.apiserver.reviews import Reviews
from kaito.local.apiserver.streams.pods import PodStreams
from kaito.local.apiserver.subresources import Subresources
from kaito.local.apiserver.webhooks import WebhookAdmission
from kaito.local.apiserver.write import Writer
from kaito.local.backend import PodBackend
from kaito.local.store.lock import FolderLock
from kaito.local.store.store import Store

log = logging.getLogger(__name__)

KEEPALIVE_SECONDS = 300.0
SHUTDOWN_SECONDS = 5.0


class ApiServer:
    """One Kubernetes API on one data folder. `start` raises store.Locked when another process has the folder."""

    def __init__(self, config: ServerConfig, backend: PodBackend | None = None) -> None:
        self.config = config
        self.kubeconfig: Path = config.home / "kubeconfig"
        self.port = config.port
        self.token = ""
        self.ca: Path = config.home / "pki" / "ca.crt"
        self._streams = PodStreams()
        self._streams.backend = backend
        self._lock = FolderLock(config.home / "lock")
        self._runner: web.ServerRunner | None = None
        self._store: Store | None = None
        self._crds: CrdRegistry | None = None
        self._admission: WebhookAdmission | None = None
        self._ready = False

    @property
    def url(self) -> str:
        return f"https://{self.config.host}:{self.port}"

    def set_backend(self, backend: PodBackend) -> None:
        """The node agent, once it runs."""
        self._streams.backend = backend

    async def start(self) -> None:
        """Returns when requests are served and the kubeconfig is written."""
        self.config.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock.acquire()
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Ends watches, commits what is queued, lets go of the folder. May be called twice."""
        self._ready = False
        if self._store is not None:
            for watcher in self._store.watchers():
                watcher.close()
        if self._crds is not None:
            await self._crds.close()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        await self._streams.close()
        if self._admission is not None:
            await self._admission.close()
        if self._store is not None:
            await self._store.close()
            self._store = None
        self._lock.release()

    async def _start(self) -> None:
        config = self.config
        store = self._store = Store(config.home / "state.db", history=config.history)
        resources = Resources()
        addresses = ServiceAddresses(store, config.service_network)
        pki = load_pki(
            config.home / "pki",
            addresses=["127.0.0.1", addresses.first],
            token=config.random_hex(32),
            signing_key=config.random_hex(32),
            now=config.clock(),
        )
        self.token = pki.token
        authenticator, authorizer = Authenticator(pki.token, pki.signing_key), Authorizer(store)
        builtin = BuiltinAdmission(store, addresses)
        admission = self._admission = WebhookAdmission(store, resources, builtin, config.random_hex)
        writer = Writer(store, admission, config.random_hex)
        deleter, reader = Deleter(store, admission), Reader(store)
        self._crds = CrdRegistry(store, resources, writer, deleter, config.clock)
        self._crds.start()
        api = Api(
            config=config,
            store=store,
            resources=resources,
            documents=Documents(resources, lambda: self._ready),
            reader=reader,
            writer=writer,
            deleter=deleter,
            reviews=Reviews(authenticator, authorizer),
            subresources=Subresources(config, store, reader, writer, deleter, authenticator, self._streams),
            authenticator=authenticator,
            authorizer=authorizer,
        )
        server = web.Server(
            api.serve,
            access_log=None,
            keepalive_timeout=KEEPALIVE_SECONDS,
            tcp_keepalive=True,
            handler_cancellation=True,
        )
        self._runner = web.ServerRunner(server, shutdown_timeout=SHUTDOWN_SECONDS)
        await self._runner.setup()
        site = web.TCPSite(self._runner, config.host, config.port, ssl_context=pki.tls_context())
        await site.start()
        self.port = self._runner.addresses[0][1]
        await create_first_objects(writer, resources, config.clock(), addresses.first, self.port)
        write_kubeconfig(self.kubeconfig, self.url, pki)
        self._ready = True
        log.info("serving the Kubernetes API on %s", self.url)
