"""The annotations of a tuning Workspace: the gate before serving, checkpoints in a registry, a secret for the data."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from kaito.api.validation import validate, warnings
from kaito.kube.errors import ConfigError
from kaito.workspace.operator import OperatorConfig
from tests.workspace.builders import INFERENCE, SETTINGS, TUNING, annotated, changed, decode
from tests.workspace.world import World


def gated(promote_if: str, **published: Any) -> World:
    """A world whose training ends with those figures."""
    world = World(annotated(TUNING, promote_if=promote_if))
    figures = {"evalLoss": 0.5, "baseEvalLoss": 1.0, "scoredOn": "eval", **published}
    world.published = json.dumps(
        {"image": "registry.example.com/team/adapter:0.0.1", "digest": "sha256:" + "a" * 64, **figures}
    )
    world.settle()
    return world


def status(world: World) -> dict[str, Any]:
    assert world.workspace is not None
    found: dict[str, Any] = world.workspace["status"]
    return found


def test_a_model_that_passes_is_served() -> None:
    world = gated("evalLoss < base")
    assert world.condition("WorkspaceReady")["status"] == "True"
    assert status(world)["tuning"]["scoredOn"] == "eval"


@pytest.mark.parametrize(
    ("promote_if", "published", "why"),
    [
        ("evalLoss < base", {"evalLoss": 1.5}, "evalLoss is 1.5, which is not < 1 (base 1)"),
        ("exactMatch > 0.5", {}, "exactMatch was not measured"),
        ("perplexity < 2", {"perplexity": 3.25, "basePerplexity": 9.0}, "perplexity is 3.25"),
        ("evalLoss < base", {"scoredOn": "train"}, "nothing was held out"),
    ],
)
def test_a_model_that_fails_is_published_and_not_served(promote_if: str, published: dict[str, Any], why: str) -> None:
    world = gated(promote_if, **published)
    assert not world.all("deployments")
    for kind in ("InferenceReady", "WorkspaceReady"):
        condition = world.condition(kind)
        assert (condition["status"], condition["reason"]) == ("False", "NotPromoted")
        assert why in condition["message"]
        assert "adapter:0.0.1@sha256:" in condition["message"]
        assert "kubectl annotate workspace tuned kaito.sh/promote-if-" in condition["message"]
    assert world.condition("TuningSucceeded")["status"] == "True"
    assert world.condition("WorkspaceSucceeded")["status"] == "True"
    assert status(world)["state"] == "Succeeded"
    before = world.writes
    world.reconcile()
    assert world.writes == before


def test_without_the_annotation_it_is_served_and_not_trained_again() -> None:
    world = gated("evalLoss < base", evalLoss=1.5)
    assert world.workspace is not None
    world.workspace["metadata"]["annotations"] = {}
    world.settle()
    assert world.condition("WorkspaceReady")["status"] == "True"
    assert [kind for kind, _ in world.created].count("jobs") == 1


def test_a_gate_that_comes_later_takes_the_server_away() -> None:
    world = gated("evalLoss < base")
    assert world.all("deployments")
    assert world.workspace is not None
    world.workspace["metadata"]["annotations"] = {"kaito.sh/promote-if": "evalLoss < 0.1"}
    world.settle()
    assert not world.all("deployments")
    assert world.condition("InferenceReady")["reason"] == "NotPromoted"


def environment(container: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one.get("value", "") for one in container["env"]}


def job_of(workspace: dict[str, Any]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The Job's pod spec, and its containers by name."""
    world = World(workspace)
    world.put("secrets", {"metadata": {"name": "hub"}, "data": {"authorization": "eA=="}})
    world.settle()
    spec = world.one("jobs")["spec"]["template"]["spec"]
    return spec, {one["name"]: one for one in (*spec["initContainers"], *spec["containers"])}


def test_checkpoints_go_to_their_image_with_the_push_secret() -> None:
    image = "registry.example.com/team/adapter:checkpoint"
    spec, containers = job_of(annotated(TUNING, checkpoint_image=image))
    for name in ("tune", "publish"):
        values = environment(containers[name])
        assert values["KAITO_CHECKPOINT_IMAGE"] == image
        assert values["KAITO_REGISTRY_AUTH"] == "/mnt/push-secret/config.json"
        (mount,) = [one for one in containers[name]["volumeMounts"] if one["name"] == "push-secret"]
        assert mount["readOnly"] is True
    assert spec["terminationGracePeriodSeconds"] > 60
    _, containers = job_of(TUNING)
    assert "KAITO_CHECKPOINT_IMAGE" not in environment(containers["tune"])
    assert "push-secret" not in str(containers["tune"])


def test_the_data_secret_reaches_the_data_step_alone() -> None:
    spec, containers = job_of(annotated(TUNING, data_secret="hub"))
    path = environment(containers["data"])["KAITO_DATA_AUTHORIZATION"]
    (mount,) = [one for one in containers["data"]["volumeMounts"] if one["name"] == "data-secret"]
    assert path.startswith(mount["mountPath"] + "/")
    assert {one["name"]: one for one in spec["volumes"]}["data-secret"]["secret"] == {"secretName": "hub"}
    assert "data-secret" not in str([containers[name] for name in ("model", "tune", "publish")])


def test_a_data_secret_that_is_not_there_is_said() -> None:
    world = World(annotated(TUNING, data_secret="absent"))
    world.settle()
    assert "absent" in world.condition("WorkspaceReady")["message"]
    assert not world.all("jobs")


@pytest.mark.parametrize(
    ("annotation", "value", "words"),
    [
        ("promote_if", "evalLos < base", "did you mean evalLoss?"),
        ("checkpoint_image", "Not An Image", "is not an image reference"),
        ("checkpoint_image", "r.io/a@sha256:" + "a" * 64, "names a digest"),
        ("checkpoint_image", "registry.example.com/team/adapter:0.0.1", "would overwrite"),
        ("data_secret", "Not A Name", "is not the name of a Secret"),
    ],
)
def test_wrong_annotations_are_refused(annotation: str, value: str, words: str) -> None:
    faults = validate(decode(annotated(TUNING, **{annotation: value})), SETTINGS.rules)
    assert [fault.reason for fault in faults] == ["InvalidAnnotation"]
    assert words in str(faults[0])


def test_annotations_of_tuning_mean_nothing_without_it() -> None:
    workspace = decode(annotated(INFERENCE, promote_if="x", checkpoint_image="y", data_secret="z"))
    assert not validate(workspace, SETTINGS.rules)
    assert sum("not acted on without tuning" in one for one in warnings(workspace)) == 3


@pytest.mark.parametrize("name", ["lora-params-template", "qlora-params-template"])
def test_the_templates_of_an_installation_are_the_defaults(name: str) -> None:
    world = World(changed(TUNING, {"tuning.config": name, "tuning.method": name.partition("-")[0]}))
    world.settle()
    assert world.condition("WorkspaceReady")["status"] == "True"


@pytest.mark.parametrize("base", [TUNING, INFERENCE], ids=["tuning", "inference"])
def test_registries_without_tls_are_named_to_every_step(base: dict[str, Any]) -> None:
    settings = replace(SETTINGS, insecure_registries=("registry.local:5000", "10.0.0.7"))
    world = World(base, settings)
    world.settle()
    for kind in ("jobs", "deployments"):
        for one in world.all(kind):
            spec = one["spec"]["template"]["spec"]
            for container in (*spec["initContainers"], *spec["containers"]):
                assert environment(container)["KAITO_INSECURE_REGISTRIES"] == "registry.local:5000,10.0.0.7"


@pytest.mark.parametrize("registry", ["https://registry.local", "registry.local/team", "", "host:port"])
def test_what_is_no_registry_is_refused(registry: str) -> None:
    with pytest.raises(ConfigError, match="insecure-registry"):
        OperatorConfig(insecure_registries=(registry,))
