"""The admission server, asked as an API server asks it: over TLS, with the CA of the webhook configuration."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import urllib.request
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kaito.kube.admission import WEBHOOKS
from kaito.kube.certificates import make_certificate, obtain_certificate
from kaito.kube.errors import KubeError
from kaito.workspace.admission import CONFIGURATION, SECRET, AdmissionConfig, run_admission
from tests.workspace.builders import INFERENCE, SETTINGS, TUNING, changed
from tests.workspace.conftest import Stage

CONFIG = AdmissionConfig("127.0.0.1", 0, "", "default")


class Asker:
    """The API server's side of a webhook."""

    def __init__(self, port: int, authority: bytes) -> None:
        self._url = f"https://localhost:{port}/validate-workspace"
        self._tls = ssl.create_default_context(cadata=authority.decode())

    async def ask(self, new: dict[str, Any], old: dict[str, Any] | None = None) -> dict[str, Any]:
        request = {"uid": "r-1", "operation": "UPDATE" if old else "CREATE", "object": new, "oldObject": old}
        review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
        answer = await asyncio.to_thread(self._post, json.dumps(review).encode())
        assert answer["response"]["uid"] == "r-1"
        response: dict[str, Any] = answer["response"]
        return response

    def _post(self, body: bytes) -> Any:
        request = urllib.request.Request(self._url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10, context=self._tls) as answer:
            return json.load(answer)


@pytest.fixture
async def asker(stage: Stage) -> AsyncIterator[Asker]:
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    stage.play(lambda: run_admission(stage.user, SETTINGS, CONFIG, listening=port.set_result))
    listening = await asyncio.wait_for(port, 10)
    async with asyncio.timeout(10):
        while (configured := await stage.user.find(WEBHOOKS, CONFIGURATION)) is None:
            await asyncio.sleep(0.02)
    webhook = configured["webhooks"][0]
    assert webhook["failurePolicy"] == "Ignore", "a broken operator would block the users' objects"
    yield Asker(listening, base64.b64decode(webhook["clientConfig"]["caBundle"]))


async def test_a_good_workspace_is_allowed(asker: Asker) -> None:
    assert (await asker.ask(TUNING))["allowed"]
    assert (await asker.ask(INFERENCE))["allowed"]


async def test_all_faults_are_told_at_once(asker: Asker) -> None:
    bad = changed(TUNING, {"tuning.preset.name": "tiny-phi-33", "tuning.method": "qqlora"})
    response = await asker.ask(bad)
    assert not response["allowed"]
    message = response["status"]["message"]
    assert "Did you mean tiny-phi-3" in message
    assert "tuning.method" in message


async def test_what_is_not_acted_on_gets_a_warning(asker: Asker) -> None:
    response = await asker.ask(changed(INFERENCE, {"resource.preferredNodes": ["n1"]}))
    assert response["allowed"]
    assert "preferredNodes" in response["warnings"][0]


async def test_what_may_not_change_is_refused(asker: Asker) -> None:
    response = await asker.ask(changed(INFERENCE, {"inference.preset.name": "phi-4"}), INFERENCE)
    assert not response["allowed"]
    assert "inference.preset.name: cannot be changed" in response["status"]["message"]


async def test_a_stored_fault_does_not_block_other_changes(asker: Asker) -> None:
    stored = changed(INFERENCE, {"resource.instanceType": "Standard_Gone"})
    labelled = changed(stored, {"metadata.labels": {"a": "b"}})
    assert (await asker.ask(labelled, stored))["allowed"]


async def test_a_workspace_that_goes_is_never_held_back(asker: Asker) -> None:
    going = changed(INFERENCE, {"metadata.deletionTimestamp": "2026-07-01T12:00:00Z", "inference": None})
    assert (await asker.ask(going, INFERENCE))["allowed"]


async def test_a_fresh_certificate_is_kept_and_an_old_one_renewed(stage: Stage) -> None:
    names, now = CONFIG.names, datetime(2026, 7, 1, tzinfo=UTC)
    first = await obtain_certificate(stage.user, "default", SECRET, names, now)
    assert await obtain_certificate(stage.user, "default", SECRET, names, now + timedelta(days=200)) == first
    later = await obtain_certificate(stage.user, "default", SECRET, names, now + timedelta(days=320))
    assert later.ends > first.ends


def test_a_certificate_for_other_names_is_not_fresh() -> None:
    now = datetime(2026, 7, 1, tzinfo=UTC)
    assert not make_certificate(["other.default.svc"], now).is_fresh(CONFIG.names, now)


async def test_an_api_server_refuses_what_the_webhook_does(stage: Stage, asker: Asker) -> None:
    """The whole way: the embedded API server asks the operator's server by URL, and passes its words on."""
    bad = changed(INFERENCE, {"inference.preset.name": "tiny-phi3"})
    with pytest.raises(KubeError) as caught:
        await stage.apply(bad)
    assert "Did you mean tiny-phi-3" in str(caught.value)
    await stage.apply(INFERENCE)
