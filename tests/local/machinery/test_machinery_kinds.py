"""The table of built-in kinds, its data file, and CRDs."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaito.api.crds import machine_crd, node_claim_crd, node_pool_crd, workspace_crd
from kaito.local.machinery import model_schemas
from kaito.local.machinery.builtin_schemas import definitions
from kaito.local.machinery.kinds import BUILTIN, from_crd, validate_crd
from tests.local.machinery.builders import crd, kind

Json = dict[str, Any]


def test_the_data_file_is_current() -> None:
    """When this fails: python -m kaito.local.machinery.model_schemas."""
    assert model_schemas.DATA_FILE.read_text(encoding="utf-8") == model_schemas.render()


def test_names_are_unique() -> None:
    assert len({info.gvk for info in BUILTIN}) == len(BUILTIN)
    assert len({(info.group, info.plural) for info in BUILTIN}) == len(BUILTIN)
    short = [name for info in BUILTIN for name in info.short_names if info.kind != "Event"]
    assert len(set(short)) == len(short)


@pytest.mark.parametrize(
    ("group", "name", "api_version", "plural", "namespaced", "short"),
    [
        ("", "Pod", "v1", "pods", True, ("po",)),
        ("apps", "Deployment", "apps/v1", "deployments", True, ("deploy",)),
        ("", "Node", "v1", "nodes", False, ("no",)),
        ("rbac.authorization.k8s.io", "ClusterRole", "rbac.authorization.k8s.io/v1", "clusterroles", False, ()),
        ("coordination.k8s.io", "Lease", "coordination.k8s.io/v1", "leases", True, ()),
    ],
)
def test_builtin(
    group: str, name: str, api_version: str, plural: str, namespaced: bool, short: tuple[str, ...]
) -> None:
    info = kind(name, group)
    assert (info.api_version, info.plural, info.namespaced, info.short_names) == (
        api_version,
        plural,
        namespaced,
        short,
    )
    assert info.definition in definitions()
    assert info.list_kind == f"{name}List"


def test_scale_and_status() -> None:
    assert {"status", "scale"} <= kind("Deployment", "apps").subresources
    assert "status" in kind("Pod").subresources
    assert kind("ConfigMap").subresources == frozenset()


def test_reviews_can_only_be_created() -> None:
    assert kind("SelfSubjectAccessReview", "authorization.k8s.io").verbs == ("create",)


@pytest.mark.parametrize("make", [workspace_crd, node_claim_crd, machine_crd, node_pool_crd])
def test_the_projects_own_crds(make: Any) -> None:
    given_crd = make()
    definition = kind("CustomResourceDefinition", "apiextensions.k8s.io")
    copied = copy.deepcopy(given_crd)
    assert definition.schema.prune(copied) == []
    assert definition.schema.validate(given_crd) == []
    assert validate_crd(given_crd) == []
    infos = from_crd(given_crd)
    assert infos
    assert {info.storage_version for info in infos} <= {version["name"] for version in given_crd["spec"]["versions"]}


def test_from_crd() -> None:
    changed = crd()
    version = changed["spec"]["versions"][0]
    version["subresources"]["scale"] = {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.count"}
    old = {**version, "name": "v0", "storage": False, "deprecated": True, "additionalPrinterColumns": []}
    changed["spec"]["versions"] += [old, {**old, "name": "vx", "served": False}]
    new_info, old_info = from_crd(changed)
    assert new_info.gvk == ("example.com", "v1", "Widget")
    assert (new_info.list_kind, new_info.singular, new_info.short_names) == ("WidgetList", "widget", ("wd",))
    assert new_info.subresources == {"status", "scale"}
    assert new_info.scale is not None
    assert new_info.scale.spec_replicas == ".spec.size"
    assert [column.name for column in new_info.columns] == ["Size", "Ready", "Age"]
    assert [column.name for column in old_info.columns] == ["Age"]
    assert old_info.storage_version == "v1"
    assert old_info.deprecation_warning == "example.com/v0 Widget is deprecated"


def broken(path: str, value: Any) -> Json:
    """The CRD with one thing changed: a path of keys and indexes, dot-separated."""
    changed = crd()
    place: Any = changed["spec"]
    *parents, last = path.split(".")
    for key in parents:
        place = place[int(key)] if key.isdigit() else place[key]
    place[last] = value
    return changed


SCHEMA = "versions.0.schema.openAPIV3Schema"


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("group", "other.com", "metadata.name"),
        ("group", "nodots", "spec.group"),
        ("names.plural", "Widgets", "spec.names.plural"),
        ("names.kind", "no spaces", "spec.names.kind"),
        ("versions.0.storage", False, "spec.versions"),
        ("versions.0.name", "V1", "spec.versions[0].name"),
        ("versions.0.schema", {}, "spec.versions[0].schema.openAPIV3Schema"),
        (f"{SCHEMA}.type", "array", "spec.validation.openAPIV3Schema.type"),
        (f"{SCHEMA}.properties.spec", {}, "spec.validation.openAPIV3Schema.properties[spec].type"),
        (
            f"{SCHEMA}.properties.spec",
            {"type": "array"},
            "spec.validation.openAPIV3Schema.properties[spec].items",
        ),
        (
            f"{SCHEMA}.properties.spec",
            {"type": "object", "x-kubernetes-validations": [{"rule": "self.a +"}]},
            "spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule",
        ),
        (
            f"{SCHEMA}.properties.spec",
            {"type": "array", "x-kubernetes-list-type": "map", "items": {"type": "object"}},
            "spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-list-map-keys",
        ),
        (f"{SCHEMA}.properties.spec", {"type": "string", "pattern": "["}, "spec.validation.openAPIV3Schema"),
        (
            "versions.0.additionalPrinterColumns.0.type",
            "bytes",
            "spec.versions[0].additionalPrinterColumns[0].type",
        ),
        (
            "versions.0.additionalPrinterColumns.0.jsonPath",
            "spec",
            "spec.versions[0].additionalPrinterColumns[0].jsonPath",
        ),
        ("conversion", {"strategy": "Webhook"}, "spec.conversion.strategy"),
    ],
)
def test_crd_refused(path: str, value: Any, field: str) -> None:
    assert field in {cause.field for cause in validate_crd(broken(path, value))}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "properties", "items", "additionalProperties", "pattern", "enum", "required", "default"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@settings(max_examples=200, deadline=None)
@given(json_values)
def test_no_schema_breaks_the_check(raw: Any) -> None:
    definition = kind("CustomResourceDefinition", "apiextensions.k8s.io")
    given_crd = broken("versions.0.schema", {"openAPIV3Schema": raw})
    definition.schema.prune(given_crd)
    definition.schema.default(given_crd)
    if definition.schema.validate(given_crd) or validate_crd(given_crd):
        return
    info = from_crd(given_crd)[0]
    obj = {"metadata": {"name": "a"}, "spec": {"size": 1}}
    info.schema.prune(obj)
    info.schema.default(obj)
    info.schema.validate(obj)
    info.schema.rules(obj)
