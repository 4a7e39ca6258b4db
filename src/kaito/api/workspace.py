"""`kaito.sh` Workspace, v1alpha1 and v1beta1 (storage): one shape, no `spec` level.

`resource`, `inference`, `tuning` and `status` stand at the top of the object. Pod templates and volume sources are
kept as the plain dicts that the user wrote. Fields and defaults: the KAITO v0.3 and v0.12 APIs.
"""

from __future__ import annotations

from typing import Any

import msgspec

from kaito.api.meta import Condition, LabelSelector, ObjectMeta

GROUP = "kaito.sh"
STORAGE_VERSION = "v1beta1"
VERSIONS = ("v1alpha1", "v1beta1")
FINALIZER = "workspace.finalizer.kaito.sh"

RUNTIMES = ("vllm", "transformers")

LABEL_WORKSPACE = "kaito.sh/workspace"
LABEL_WORKSPACE_NAMESPACE = "kaito.sh/workspacenamespace"
ANNOTATION_ENABLE_LB = "kaito.sh/enablelb"
ANNOTATION_RUNTIME = "kaito.sh/runtime"
ANNOTATION_BYPASS_CHECKS = "kaito.sh/bypass-resource-checks"
ANNOTATION_NODE_IMAGE = "kaito.sh/node-image-family"
ANNOTATION_NODE_CLASS = "kaito.sh/node-class-name"
ANNOTATION_PERFORMANCE_MODE = "kaito.sh/performance-mode"
ANNOTATION_LOCAL_WEIGHTS = "kaito.sh/use-local-weights"
ANNOTATION_DISABLE_BENCHMARK = "kaito.sh/disable-benchmark"
ANNOTATION_SERVE_AFTER_TUNING = "kaito.sh/serve-after-tuning"
ANNOTATION_PROMOTE_IF = "kaito.sh/promote-if"
ANNOTATION_CHECKPOINT_IMAGE = "kaito.sh/checkpoint-image"
ANNOTATION_DATA_SECRET = "kaito.sh/data-secret"  # noqa: S105 - the name of an annotation
ANNOTATION_HASH = "kaito.sh/spec-hash"
"""On pod templates: the hash of all that made them, so that any change of it rolls out."""
ANNOTATION_BACKED_BY = "kaito.sh/backed-by"
"""On nodes that stand for another machine than their instance type says: what really backs them."""


class Partition(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    mode: str = ""
    profile: str = ""
    count: int | None = None


class Resource(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    instanceType: str = ""
    labelSelector: LabelSelector = LabelSelector()
    count: int | None = None
    preferredNodes: list[str] = []
    partition: Partition | None = None


class PresetOptions(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    image: str = ""
    imagePullSecrets: list[str] = []
    modelAccessSecret: str = ""


class Preset(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    name: str = ""
    accessMode: str = ""
    presetOptions: PresetOptions = PresetOptions()


class DataSource(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    name: str = ""
    urls: list[str] = []
    volumeSource: dict[str, Any] | None = None
    image: str = ""
    imagePullSecrets: list[str] = []


class DataDestination(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    volumeSource: dict[str, Any] | None = None
    image: str = ""
    imagePushSecret: str = ""


class Adapter(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    source: DataSource | None = None
    strength: str | None = None


class Inference(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    preset: Preset | None = None
    template: dict[str, Any] | None = None
    config: str = ""
    adapters: list[Adapter] = []


class Tuning(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    preset: Preset | None = None
    method: str = ""
    config: str = ""
    input: DataSource | None = None
    output: DataDestination | None = None


class TunedAdapter(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    image: str = ""
    digest: str = ""


class TuningStatus(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Progress of the training. Losses are floats as text, since CRDs shun floats.

    `etaSeconds` counts from the last write.
    """

    step: int = 0
    totalSteps: int = 0
    epoch: str = ""
    loss: str = ""
    evalLoss: str = ""
    baseEvalLoss: str = ""
    perplexity: str = ""
    basePerplexity: str = ""
    exactMatch: str = ""
    baseExactMatch: str = ""
    scoredOn: str = ""
    """`eval` for a held-out part; `train` where nothing was held out, so that the numbers prove memory, not skill."""
    tokensPerSecond: int = 0
    etaSeconds: int = 0
    startedAt: str = ""
    finishedAt: str = ""
    specHash: str = ""
    """Of what was trained; while it holds, the adapter stands for the spec and no training is repeated."""
    adapter: TunedAdapter | None = None


class EstimateStatus(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What the estimator found, as quantities in text ("7.1Gi"), and why."""

    weights: str = ""
    kvCache: str = ""
    overhead: str = ""
    perGPU: str = ""
    nodes: int = 0
    why: str = ""


class WorkspaceStatus(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    conditions: list[Condition] = []
    workerNodes: list[str] = []
    targetNodeCount: int = 0
    state: str = ""
    tuning: TuningStatus | None = None
    estimate: EstimateStatus | None = None
    performance: dict[str, Any] | None = None


class Workspace(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    metadata: ObjectMeta = ObjectMeta()
    resource: Resource = Resource()
    inference: Inference | None = None
    tuning: Tuning | None = None
    status: WorkspaceStatus = WorkspaceStatus()
    apiVersion: str = ""
    kind: str = ""


def runtime_of(workspace: Workspace) -> str:
    """ "vllm" or "transformers" where the annotation says one of them; any other value says nothing, as in KAITO."""
    named = workspace.metadata.annotations.get(ANNOTATION_RUNTIME, "")
    return named if named in RUNTIMES else ""


def node_image_of(workspace: Workspace) -> str:
    """The image family of the nodes, in small letters; empty where none is named."""
    return workspace.metadata.annotations.get(ANNOTATION_NODE_IMAGE, "").strip().lower()
