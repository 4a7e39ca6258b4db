"""The kinds that the API server serves: the built-in table, and whatever CRDs add to it."""

from __future__ import annotations

from kaito.local.machinery.builtin_kinds import BUILTIN
from kaito.local.machinery.crd import from_crd, validate_crd
from kaito.local.machinery.resource_info import Column, ResourceInfo, ScalePaths

__all__ = ["BUILTIN", "Column", "ResourceInfo", "ScalePaths", "from_crd", "validate_crd"]
