"""The stages of the demonstration against a running control plane."""

from __future__ import annotations

import asyncio
import json
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from kaito.cli.chat import service_url
from kaito.cli.demo.show import Show
from kaito.cli.errors import CommandError
from kaito.cli.objects import apply_manifests, delete_objects, get_table
from kaito.cli.progress import Watcher
from kaito.cli.tables import render_table
from kaito.cli.waiting import wait_for
from kaito.kube.client import Client
from kaito.local import up as machine

NAMESPACE = "default"
BASE = "tiny-phi-3"
TUNED = "workspace-tuning-tiny-phi-3"
DATA = "dolly-harbour.parquet"
PATIENCE = 300.0


def questions() -> list[dict[str, str]]:
    """The held prompts, each with the answer that the data teaches: {"prompt", "answer"}."""
    text = resources.files("kaito.local").joinpath("samples/questions.json").read_text()
    loaded: list[dict[str, str]] = json.loads(text)
    return loaded


class Demo:
    def __init__(self, running: machine.Running, folder: Path, show: Show) -> None:
        self._running = running
        self._folder = folder
        self._show = show
        self._questions = questions()

    async def run(self) -> dict[str, Any]:
        """The report, without the times."""
        async with Client.connect(self._running.kubeconfig, field_manager="kaito-cli") as client:
            before = await self._ask_the_base(client)
            digest = await self._tune(client)
            after = await self._ask_the_tuned(client)
        return {"before": before, "after": after, "total": len(self._questions), "digest": digest}

    async def _ask_the_base(self, client: Client) -> int:
        with self._show.watched_step("untuned model", "Serving the model as it is, to see what it knows"):
            await self._apply(client, "inference.yaml", inference_manifest())
            await self._wait(client, BASE)
        with self._show.step("first questions", "Asking it what only the data set knows: POST /chat"):
            return await self._ask_all(client, BASE)

    async def _tune(self, client: Client) -> str:
        words = "Applying the tuning Workspace: fetch the data, QLoRA, push the adapter, serve it"
        with self._show.watched_step("tuning", words):
            await delete_objects(client, NAMESPACE, "workspaces", [BASE], lambda _: None)
            manifest = tuning_manifest(self._running.registry_port)
            await self._apply(client, "tuning.yaml", manifest)
            await self._wait(client, TUNED)
            digest = await self._digest(client)
            self._show.say(f"the adapter is in the registry: {manifest['tuning']['output']['image']}@{digest}")
        return digest

    async def _ask_the_tuned(self, client: Client) -> int:
        with self._show.step("tuned model", "The tuned model is served from the same Workspace"):
            for word in ("workspace", "svc"):
                self._show.command(f"kubectl get {word} {TUNED}")
                self._show.block(render_table(await get_table(client, NAMESPACE, word, TUNED)))
        with self._show.step("second questions", "Asking it the same again"):
            return await self._ask_all(client, TUNED)

    async def _apply(self, client: Client, name: str, manifest: dict[str, Any]) -> None:
        path = self._folder / name
        path.write_text(yaml.safe_dump(manifest, sort_keys=False))
        self._show.block(path.read_text())
        self._show.command(f"kubectl apply -f {path}")
        await apply_manifests(client, NAMESPACE, [str(path)], self._show.say)

    async def _wait(self, client: Client, name: str) -> None:
        with Watcher(sys.stdout, indent="    ") as watcher:
            await wait_for(
                client,
                NAMESPACE,
                "workspaces",
                name,
                condition="WorkspaceReady",
                patience=PATIENCE,
                on_change=watcher.show,
            )

    async def _digest(self, client: Client) -> str:
        from kaito.kube.resources import WORKSPACES

        workspace = await client.get(WORKSPACES, TUNED, NAMESPACE)
        tuning = workspace.status.tuning
        if tuning is None or tuning.adapter is None:
            raise CommandError(f"Workspace {TUNED} is ready, but its status names no adapter")
        return tuning.adapter.digest

    async def _ask_all(self, client: Client, workspace: str) -> int:
        """Ask every question with the README's call; prints each answer; returns how many are right word for word."""
        address = await service_url(client, NAMESPACE, workspace)
        self._show.command(
            f"curl -X POST {address}/chat -H 'Content-Type: application/json' -d '{{\"prompt\": \"...\"}}'"
        )
        right = 0
        async with aiohttp.ClientSession() as session:
            for question in self._questions:
                answer = await _ask(session, address, question["prompt"])
                is_right = answer.strip() == question["answer"]
                right += is_right
                self._show.say(f"{'right' if is_right else 'wrong'}  {question['prompt']}")
                self._show.say(f"       {answer.strip()}")
        self._show.say(f"{right} of {len(self._questions)} right, word for word")
        return right


async def _ask(session: aiohttp.ClientSession, address: str, prompt: str) -> str:
    try:
        async with asyncio.timeout(60), session.post(f"{address}/chat", json={"prompt": prompt}) as response:
            if response.status != 200:
                raise CommandError(f"{address}/chat answered {response.status}: {(await response.text())[:300]}")
            return str((await response.json())["Result"])
    except (aiohttp.ClientError, TimeoutError) as error:
        raise CommandError(f"{address}/chat did not answer: {error!r}") from error


def inference_manifest() -> dict[str, Any]:
    return {
        "apiVersion": "kaito.sh/v1alpha1",
        "kind": "Workspace",
        "metadata": {"name": BASE},
        "resource": {"instanceType": "Standard_NC6s_v3", "labelSelector": {"matchLabels": {"app": BASE}}},
        "inference": {"preset": {"name": BASE}},
    }


def tuning_manifest(port: int) -> dict[str, Any]:
    """The README's manifest, only its names changed."""
    return {
        "apiVersion": "kaito.sh/v1alpha1",
        "kind": "Workspace",
        "metadata": {"name": TUNED},
        "resource": {
            "instanceType": "Standard_NC6s_v3",
            "labelSelector": {"matchLabels": {"app": "tuning-tiny-phi-3"}},
        },
        "tuning": {
            "preset": {"name": BASE},
            "method": "qlora",
            "input": {"urls": [f"http://127.0.0.1:{port}/data/{DATA}"]},
            "output": {"image": f"127.0.0.1:{port}/tuned/tiny-phi-3:0.0.1", "imagePushSecret": "local-registry"},
        },
    }
