"""The admission server, asked as an API server asks it: over TLS, with the CA of the webhook configuration."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from kaito.kube.admission import WEBHOOKS, Request, Webhook, configure_webhooks
from kaito.kube.certificates import make_certificate, obtain_certificate
from kaito.kube.errors import KubeError
from kaito.kube.resources import SECRETS
from kaito.workspace.admission import CONFIGURATION, SECRET, AdmissionConfig, run_admission, workspace_webhook
from tests.workspace.builders import INFERENCE, SETTINGS, TUNING, annotated, changed
from tests.workspace.conftest import Stage
from tests.workspace.node_side import CONFIG_MAPS, until

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


NAMED = changed(INFERENCE, {"inference.config": "mine"})
CONFIGS: dict[str, tuple[dict[str, Any], dict[str, str] | None, str]] = {
    "absent": (NAMED, None, "inference.config: The ConfigMap mine is not in the namespace default"),
    "without the key": (NAMED, {"config.yaml": ""}, "has no key inference_config.yaml. Its keys are config.yaml"),
    "not YAML": (NAMED, {"inference_config.yaml": "vllm:\n  a: [\n"}, "line 3: is not YAML"),
    "misspelt": (NAMED, {"inference_config.yaml": "# mine\nvlm: {}\n"}, "line 2: vlm: is not a key"),
    "too long a context": (
        NAMED,
        {"inference_config.yaml": "vllm:\n  max-model-len: 99999\n"},
        "line 2: vllm.max-model-len: 99999 is more than the 512 tokens",
    ),
    "of a training": (
        changed(TUNING, {"tuning.config": "mine"}),
        {"training_config.yaml": "training_config:\n  QuantizationConfig:\n    load_in_4bit: 4\n"},
        'line 3: training_config.QuantizationConfig.load_in_4bit: "4" is not true or false',
    ),
    "of a training, absent": (changed(TUNING, {"tuning.config": "mine"}), None, "tuning.config: The ConfigMap mine"),
}


@pytest.mark.parametrize(("workspace", "data", "words"), CONFIGS.values(), ids=CONFIGS)
async def test_a_config_is_read_before_the_workspace_is_stored(
    stage: Stage, asker: Asker, workspace: dict[str, Any], data: dict[str, str] | None, words: str
) -> None:
    if data is not None:
        await stage.user.create(CONFIG_MAPS, {"metadata": {"name": "mine"}, "data": data}, "default")
    response = await asker.ask(workspace)
    assert not response["allowed"]
    assert words in response["status"]["message"]


async def test_a_good_config_is_allowed_and_the_charts_templates_need_not_be_there(stage: Stage, asker: Asker) -> None:
    good = {"metadata": {"name": "mine"}, "data": {"inference_config.yaml": "vllm: {seed: 1}"}}
    await stage.user.create(CONFIG_MAPS, good, "default")
    assert (await asker.ask(NAMED))["allowed"]
    assert (await asker.ask(changed(TUNING, {"tuning.config": "qlora-params-template"})))["allowed"]
    other = await asker.ask(changed(TUNING, {"tuning.config": "lora-params-template"}))
    assert "method qlora needs a quantization" in other["status"]["message"]


async def test_a_config_that_is_gone_does_not_block_other_changes(asker: Asker) -> None:
    assert (await asker.ask(changed(NAMED, {"metadata.labels": {"a": "b"}}), NAMED))["allowed"]
    assert not (await asker.ask(changed(NAMED, {"inference.config": "other"}), NAMED))["allowed"]


BYO = replace(SETTINGS, node_mode="byo")
FREE = changed(INFERENCE, {"resource.instanceType": None})
LLAMA = {"name": "llama-3.3-70b-instruct", "presetOptions": {"modelAccessSecret": "hf"}}
A100 = {"nvidia.com/gpu.product": "A100", "nvidia.com/gpu.count": "2", "nvidia.com/gpu.memory": "81920"}
H100 = {**A100, "nvidia.com/gpu.product": "H100"}
EXISTING: dict[str, tuple[dict[str, Any], list[dict[str, str]], str]] = {
    "no node": (FREE, [], "resource.labelSelector: No ready node carries app=phi"),
    "nodes of two kinds": (FREE, [A100, H100], "have different GPUs"),
    "one GPU too many": (
        changed(FREE, {"resource.partition": {"mode": "accelerator", "count": 3}}),
        [A100],
        "resource.partition: 3 GPUs are asked for of the 2",
    ),
    "too small": (
        changed(FREE, {"inference.preset": LLAMA, "resource.partition": {"mode": "accelerator", "count": 1}}),
        [A100],
        "The weights of llama-3.3-70b-instruct take",
    ),
    "a slice too small": (
        changed(FREE, {"inference.preset": LLAMA, "resource.partition": {"mode": "mig", "profile": "1g.10gb"}}),
        [A100],
        "has 10.00Gi",
    ),
    "two nodes hold it together": (changed(FREE, {"inference.preset": LLAMA}), [A100, A100], ""),
    "good": (FREE, [A100], ""),
    "too small, and the user knows better": (
        annotated(changed(FREE, {"inference.preset": LLAMA}), bypass_resource_checks=""),
        [A100],
        "",
    ),
}


@pytest.mark.parametrize(("workspace", "nodes", "words"), EXISTING.values(), ids=EXISTING)
async def test_existing_nodes_are_looked_at(
    stage: Stage, workspace: dict[str, Any], nodes: list[dict[str, str]], words: str
) -> None:
    for number, labels in enumerate(nodes):
        await stage.side.make_node(f"n{number}", {"app": "phi", **labels}, gpus=2)
    webhook = workspace_webhook(stage.user, BYO, lambda: datetime.now(UTC))
    asked = Request("r-1", "CREATE", "default", "served", msgspec.Raw(msgspec.json.encode(workspace)))
    verdict = await webhook.handler(asked)
    assert bool(verdict.faults) == bool(words), verdict.faults
    assert words in "".join(verdict.faults)


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


async def test_a_renewed_certificate_still_trusts_the_one_before(stage: Stage) -> None:
    """A replica that has not read the new one yet is called with the new bundle."""
    names, now = CONFIG.names, datetime(2026, 7, 1, tzinfo=UTC)
    first = await obtain_certificate(stage.user, "default", SECRET, names, now)
    second = await obtain_certificate(stage.user, "default", SECRET, names, now + timedelta(days=320))
    assert first.authority in second.authority
    third = await obtain_certificate(stage.user, "default", SECRET, names, now + timedelta(days=640))
    assert first.authority not in third.authority, "only the last one is of any use"
    assert third.authority.count(b"BEGIN CERTIFICATE") == 2


async def test_two_replicas_that_renew_at_once_end_with_one_certificate(stage: Stage) -> None:
    names, now = CONFIG.names, datetime(2026, 7, 1, tzinfo=UTC)
    await obtain_certificate(stage.user, "default", SECRET, names, now)
    later = now + timedelta(days=320)
    made = await asyncio.gather(*(obtain_certificate(stage.user, "default", SECRET, names, later) for _ in range(5)))
    assert len({one.certificate for one in made}) == 1


async def test_a_certificate_that_is_taken_away_is_made_anew_and_served_on_the_same_port(stage: Stage) -> None:
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    stage.play(lambda: run_admission(stage.user, SETTINGS, CONFIG, listening=port.set_result, pause=0.02))
    listening = await asyncio.wait_for(port, 10)

    async def bundle() -> bytes:
        found = await stage.user.find(WEBHOOKS, CONFIGURATION)
        return base64.b64decode(found["webhooks"][0]["clientConfig"]["caBundle"]) if found else b""

    before = await until(bundle)
    await stage.user.delete(SECRETS, SECRET, "default")

    async def is_new() -> bool:
        now = await bundle()
        return now != before and (await Asker(listening, now).ask(TUNING))["allowed"] is True

    await until(is_new)


async def test_a_configuration_that_an_installation_made_gets_the_authority_alone(stage: Stage) -> None:
    certificate = make_certificate(["x"], datetime.now(UTC))
    where = {"service": {"name": "kaito-operator", "namespace": "kaito-system", "port": 443}}
    made = installed_configuration("kaito-operator")
    await stage.user.create(WEBHOOKS, made)
    assert await configure_webhooks(stage.user, CONFIGURATION, hooks(stage), certificate, where)
    found = (await stage.user.get(WEBHOOKS, CONFIGURATION))["webhooks"][0]
    assert base64.b64decode(found["clientConfig"].pop("caBundle")) == certificate.authority
    assert (found["failurePolicy"], found["timeoutSeconds"]) == ("Fail", 3)
    assert found["clientConfig"] == made["webhooks"][0]["clientConfig"]
    writes = stage.user.calls["patch"]
    assert await configure_webhooks(stage.user, CONFIGURATION, hooks(stage), certificate, where)
    assert stage.user.calls["patch"] == writes, "what is so already is not written again"


async def test_a_configuration_of_another_operator_is_left_alone(stage: Stage) -> None:
    """KAITO's own has the same name, and sends the API server to KAITO's service."""
    await stage.user.create(WEBHOOKS, installed_configuration("workspace-webhook-svc"))
    where = {"service": {"name": "kaito-operator", "namespace": "kaito-system", "port": 443}}
    certificate = make_certificate(["x"], datetime.now(UTC))
    assert not await configure_webhooks(stage.user, CONFIGURATION, hooks(stage), certificate, where)
    found = await stage.user.get(WEBHOOKS, CONFIGURATION)
    assert "caBundle" not in found["webhooks"][0]["clientConfig"]


def hooks(stage: Stage) -> list[Webhook]:
    return [workspace_webhook(stage.user, SETTINGS, lambda: datetime.now(UTC))]


def installed_configuration(service: str) -> dict[str, Any]:
    reference = {"name": service, "namespace": "kaito-system", "port": 443, "path": "/validate-workspace"}
    webhook = {
        "name": CONFIGURATION,
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "failurePolicy": "Fail",
        "timeoutSeconds": 3,
        "clientConfig": {"service": reference},
        "rules": [{"apiGroups": ["x"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["y"]}],
    }
    labels = {"app.kubernetes.io/managed-by": "Helm"}
    return {"metadata": {"name": CONFIGURATION, "labels": labels}, "webhooks": [webhook]}
