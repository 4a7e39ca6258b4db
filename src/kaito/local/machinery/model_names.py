"""The three names of a built-in type: in the client models, in OpenAPI documents, and in protobuf."""

from __future__ import annotations

from typing import Final

META: Final = "io.k8s.apimachinery.pkg.apis.meta.v1"
APIEXTENSIONS: Final = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1"


def package_of_module(module: str) -> str:
    """`core_v1` -> `io.k8s.api.core.v1`."""
    if module == "meta_v1":
        return META
    if module == "apiextensions_v1":
        return APIEXTENSIONS
    group, _, version = module.partition("_")
    return f"io.k8s.api.{group}.{version}"


def module_of_package(package: str) -> str:
    """`io.k8s.api.core.v1` -> `core_v1`; empty for a package that has no models."""
    if package == META:
        return "meta_v1"
    if package == APIEXTENSIONS:
        return "apiextensions_v1"
    group, _, version = package.removeprefix("io.k8s.api.").partition(".")
    return f"{group}_{version}" if package.startswith("io.k8s.api.") else ""


def schema_name(message: str) -> str:
    """`core.v1.Pod`, as protobuf tables have it -> `io.k8s.api.core.v1.Pod`."""
    package, _, kind = message.rpartition(".")
    return f"{META if package == 'meta.v1' else f'io.k8s.api.{package}'}.{kind}"
