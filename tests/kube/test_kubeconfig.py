"""Kubeconfigs are found, merged and refused as kubectl does it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import yaml

from kaito.kube.client import Client
from kaito.kube.errors import ConfigError, Unreachable
from kaito.kube.kubeconfig import contexts, load_config


def config(name: str, **user: object) -> dict[str, object]:
    return {
        "clusters": [{"name": name, "cluster": {"server": f"https://{name}.example.com"}}],
        "users": [{"name": name, "user": user or {"token": f"token-of-{name}"}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": f"space-{name}"}}],
        "current-context": name,
    }


@pytest.fixture
def two(tmp_path: Path) -> dict[str, str]:
    for name in ("one", "two"):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(config(name)))
    return {"KUBECONFIG": f"{tmp_path}/one.yaml:{tmp_path}/absent.yaml:{tmp_path}/two.yaml"}


def test_all_files_of_the_variable_are_merged_and_the_first_context_is_current(two: dict[str, str]) -> None:
    assert contexts(environment=two) == ["one", "two"]
    found = load_config(environment=two)
    assert (found.cluster.server, found.namespace) == ("https://one.example.com", "space-one")
    other = load_config(context="two", environment=two)
    assert (other.cluster.server, other.user.token if other.user else "") == ("https://two.example.com", "token-of-two")


def test_of_one_name_the_first_wins(tmp_path: Path) -> None:
    (tmp_path / "a").write_text(yaml.safe_dump(config("one", token="mine")))
    (tmp_path / "b").write_text(yaml.safe_dump(config("one", token="other")))
    found = load_config(environment={"KUBECONFIG": f"{tmp_path}/a:{tmp_path}/b"})
    assert found.user is not None
    assert found.user.token == "mine"


def test_paths_in_a_file_are_relative_to_it(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/config").write_text(yaml.safe_dump(config("one", tokenFile="token")))
    found = load_config(tmp_path / "deep/config")
    assert found.user is not None
    assert found.user.token_file == str(tmp_path / "deep/token")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("a: [", "is not YAML", id="broken"),
        pytest.param("- 1", "is not a kubeconfig", id="a list"),
        pytest.param("", "has no current context", id="empty"),
        pytest.param("clusters: {a: 1}", "clusters that are no list", id="clusters"),
        pytest.param(yaml.safe_dump({**config("a"), "clusters": []}), "has no 'a'", id="no cluster"),
        pytest.param(yaml.safe_dump({**config("a"), "current-context": ""}), "no current context", id="no current"),
        pytest.param(yaml.safe_dump(config("a")).replace("https://a", "a"), "which is no URL", id="no URL"),
    ],
)
def test_what_cannot_be_used_is_said_with_the_file(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "config"
    file.write_text(text)
    with pytest.raises(ConfigError, match=says) as caught:
        load_config(file)
    assert str(file) in str(caught.value)


PLUGIN = """#!/bin/sh
echo "$KUBERNETES_EXEC_INFO" > {told}
echo '{{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {{"token": "t"}}}}'
"""


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
async def test_a_credential_plugin_is_asked_as_kubectl_asks_it(tmp_path: Path, version: str) -> None:
    plugin = tmp_path / "login"
    plugin.write_text(PLUGIN.format(told=tmp_path / "told"))
    plugin.chmod(0o755)
    api = f"client.authentication.k8s.io/{version}"
    text = yaml.safe_dump(config("a", exec={"apiVersion": api, "command": str(plugin)}))
    (tmp_path / "config").write_text(text.replace("a.example.com", "127.0.0.1:1"))
    async with Client.connect(tmp_path / "config") as client:
        with pytest.raises(Unreachable, match=r"127\.0\.0\.1:1"):
            await client.request("get", "GET", "apis")
    assert f'"apiVersion": "{api}", "kind": "ExecCredential"' in (tmp_path / "told").read_text()


def test_a_plugin_that_fails_is_no_traceback(tmp_path: Path) -> None:
    execute = {"apiVersion": "client.authentication.k8s.io/v1", "command": "false"}
    (tmp_path / "config").write_text(yaml.safe_dump(config("a", exec=execute)))

    async def ask() -> None:
        async with Client.connect(tmp_path / "config") as client:
            await client.request("get", "GET", "apis")

    with pytest.raises(ConfigError, match="gave no login"):
        asyncio.run(ask())
