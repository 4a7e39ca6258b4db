"""What is wrong with a Workspace, and what to do about it: pure checks, one sentence each.

Admission calls them before an object is stored; the controller calls them again, so that a cluster without the webhook
learns the same from the status. What needs a look-up (models, instance types) comes in as functions of `Rules`; what
needs the cluster (ConfigMaps, Secrets) is checked by `config_validation` and by the controller.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from kaito.api import workspace as fields
from kaito.api.crds import V1ALPHA1_INSTANCE_TYPE
from kaito.api.faults import Fault
from kaito.api.meta import LabelSelector
from kaito.api.promotion import parse_promotion
from kaito.api.sources import DNS_SUBDOMAIN, check_adapters, check_destination, check_input, is_image_reference
from kaito.api.workspace import (
    ANNOTATION_BYPASS_CHECKS,
    ANNOTATION_CHECKPOINT_IMAGE,
    ANNOTATION_DATA_SECRET,
    ANNOTATION_DISABLE_BENCHMARK,
    ANNOTATION_ENABLE_LB,
    ANNOTATION_LOCAL_WEIGHTS,
    ANNOTATION_NODE_CLASS,
    ANNOTATION_NODE_IMAGE,
    ANNOTATION_PERFORMANCE_MODE,
    ANNOTATION_PROMOTE_IF,
    ANNOTATION_RUNTIME,
    ANNOTATION_SERVE_AFTER_TUNING,
    RUNTIMES,
    Inference,
    Partition,
    Preset,
    Tuning,
    Workspace,
    node_image_of,
    runtime_of,
)

NodeMode = Literal["gpu-provisioner", "karpenter", "byo"]

RESERVED_LABELS = frozenset(
    {
        "kaito.sh/workspace",
        "kaito.sh/ragengine",
        "kaito.sh/workspacenamespace",
        "kaito.sh/ragenginenamespace",
        "karpenter.kaito.sh/workspace-name",
        "karpenter.kaito.sh/workspace-namespace",
        "karpenter.kaito.sh/inferenceset",
        "karpenter.kaito.sh/inferenceset-namespace",
    }
)
NODE_IMAGES = ("ubuntu", "azurelinux")
PERFORMANCE_MODES = ("balanced", "interactivity", "throughput")
METHODS = ("lora", "qlora")
DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")
STREAMING = frozenset(
    {"kaito.sh/model-streaming", "kaito.sh/model-mirror-storage-class", "kaito.sh/streaming-service-account"}
)
KNOWN_ANNOTATIONS = frozenset(value for name, value in vars(fields).items() if name.startswith("ANNOTATION_"))
"""All that `kaito.api.workspace` names."""
MIG_MEMORY = {
    1: {5, 6, 10, 12, 18, 20, 23, 24, 35, 45},
    2: {10, 12, 20, 24, 35, 45},
    3: {20, 40, 47, 48, 71, 90},
    4: {20, 24, 40, 47, 48, 71, 90},
    7: {40, 80, 94, 96, 141, 180},
}
"""GB by the number of slices: of A30, A100, H100, GH200, H200 and B200, as NVIDIA's MIG guide lists them."""
MIG_PROFILE = re.compile(r"(?P<slices>[1-9]\d*)g\.(?P<memory>\d+(\.\d+)?)gb\Z")

AZURE_SERIES = re.compile(r"standard_[nd][a-z]*\d[a-z\d_-]*\Z", re.IGNORECASE)
SLIP = 0.85
"""How alike two names are of which one is the other misspelt."""


@dataclass(frozen=True)
class Rules:
    """The world that a Workspace is checked against. `nearest_*` give names that look alike, best first."""

    node_mode: NodeMode
    is_model: Callable[[str], bool]
    nearest_models: Callable[[str], Sequence[str]]
    is_instance_type: Callable[[str], bool]
    nearest_instance_types: Callable[[str], Sequence[str]]
    needs_token: Callable[[str], bool] = lambda name: False
    """Whether the weights of a preset are given only to those who show a token."""
    node_classes: Sequence[str] = ()
    """Names that `kaito.sh/node-class-name` may have; karpenter mode only."""
    allow_data_from: Sequence[str] = field(default=())
    """CIDRs of private networks that data URLs may point to."""


def validate(workspace: Workspace, rules: Rules) -> list[Fault]:
    """All faults of a Workspace by itself, in the order of its fields. Empty: nothing is wrong."""
    return [
        *_name(workspace.metadata.name),
        *_kind_of_work(workspace),
        *_annotations(workspace, rules),
        *_resource(workspace, rules),
        *(_inference(workspace, workspace.inference, rules) if workspace.inference else ()),
        *(_tuning(workspace, workspace.tuning, rules) if workspace.tuning else ()),
    ]


def match_labels(selector: LabelSelector) -> dict[str, str]:
    """The selector as labels that a node can carry: matchLabels and `In` expressions of one value, without reserved."""
    labels = dict(selector.matchLabels)
    labels |= {e.key: e.values[0] for e in selector.matchExpressions if e.operator == "In" and len(e.values) == 1}
    return {key: value for key, value in labels.items() if key not in RESERVED_LABELS}


def _name(name: str) -> Iterator[Fault]:
    if not DNS_LABEL.match(name):
        message = f'"{name}" is not a DNS label'
        hint = "Use at most 63 lower-case letters, digits and '-', beginning and ending with a letter or digit."
        yield Fault("metadata.name", message, hint, "InvalidName")


def _kind_of_work(workspace: Workspace) -> Iterator[Fault]:
    if workspace.inference is None and workspace.tuning is None:
        yield Fault("inference", "neither inference nor tuning is given", "Give one of them.", "InvalidSpec")
    if workspace.inference is not None and workspace.tuning is not None:
        hint = "Keep one; a tuning Workspace serves the tuned model by itself."
        yield Fault("tuning", "inference and tuning are both given", hint, "InvalidSpec")


def _annotations(workspace: Workspace, rules: Rules) -> Iterator[Fault]:
    if ANNOTATION_NODE_IMAGE in workspace.metadata.annotations and node_image_of(workspace) not in NODE_IMAGES:
        yield from _one_of(workspace, ANNOTATION_NODE_IMAGE, NODE_IMAGES)
    yield from _one_of(workspace, ANNOTATION_PERFORMANCE_MODE, PERFORMANCE_MODES)
    yield from _one_of(workspace, ANNOTATION_LOCAL_WEIGHTS, ("true", "false"))
    yield from _one_of(workspace, ANNOTATION_SERVE_AFTER_TUNING, ("true", "false"))
    if (
        rules.node_mode == "karpenter"
        and rules.node_classes
        and workspace.metadata.annotations.get(ANNOTATION_NODE_CLASS)
    ):
        yield from _one_of(workspace, ANNOTATION_NODE_CLASS, rules.node_classes)


def _one_of(workspace: Workspace, annotation: str, allowed: Sequence[str]) -> Iterator[Fault]:
    value = workspace.metadata.annotations.get(annotation)
    if value is not None and value not in allowed:
        where = f"metadata.annotations[{annotation}]"
        yield Fault(where, f'"{value}" is not a value of it', f"Use one of {', '.join(allowed)}.", "InvalidAnnotation")


def _resource(workspace: Workspace, rules: Rules) -> Iterator[Fault]:
    resource = workspace.resource
    yield from _selector(resource.labelSelector)
    yield from _instance_type(workspace, rules)
    if resource.count is not None and resource.count < 1:
        yield Fault("resource.count", f"{resource.count} is not a number of nodes", "Use 1 or more.", "InvalidSpec")
    if resource.partition is not None:
        yield from _partition(resource.partition, rules)


def _selector(selector: LabelSelector) -> Iterator[Fault]:
    for number, expression in enumerate(selector.matchExpressions):
        if expression.operator != "In" or len(expression.values) != 1:
            where = f"resource.labelSelector.matchExpressions[{number}]"
            message = f"{expression.key} {expression.operator} cannot become a label of a node"
            yield Fault(where, message, "Use matchLabels, or In with one value.", "InvalidSelector")
    reserved = sorted(RESERVED_LABELS & selector.matchLabels.keys())
    if reserved and not match_labels(selector):
        where = "resource.labelSelector.matchLabels"
        message = f"only reserved labels are given ({', '.join(reserved)})"
        yield Fault(where, message, "Add a label of your own, such as app: my-model.", "InvalidSelector")


def _instance_type(workspace: Workspace, rules: Rules) -> Iterator[Fault]:
    where, name = "resource.instanceType", workspace.resource.instanceType
    if rules.node_mode == "byo":
        if name and name != V1ALPHA1_INSTANCE_TYPE:
            message = f'"{name}" is given, but this operator makes no nodes (--nodes byo)'
            yield Fault(where, message, "Remove it; nodes are found by resource.labelSelector.", "InvalidInstanceType")
        return
    if not name:
        hint = "Name a machine type with GPUs, such as Standard_NC24ads_A100_v4."
        yield Fault(where, "no instance type is given", hint, "InvalidInstanceType")
    elif not rules.is_instance_type(name) and _needs_known_type(workspace) and not _is_new_on_azure(name, rules):
        yield _unknown(where, "instance type", name, rules.nearest_instance_types(name), "UnknownInstanceType")


def _is_new_on_azure(name: str, rules: Rules) -> bool:
    """A name of Azure's N and D series that KAITO admits unseen; one that looks like a slip is not taken for new."""
    nearest = [known.lower() for known in rules.nearest_instance_types(name)]
    is_slip = difflib.get_close_matches(name.lower(), nearest, n=1, cutoff=SLIP)
    return AZURE_SERIES.match(name) is not None and not is_slip


def _needs_known_type(workspace: Workspace) -> bool:
    """A template says itself what it needs; the bypass annotation says that the user knows better."""
    is_template = workspace.inference is not None and workspace.inference.preset is None
    return not is_template and ANNOTATION_BYPASS_CHECKS not in workspace.metadata.annotations


def _partition(partition: Partition, rules: Rules) -> Iterator[Fault]:
    where = "resource.partition"
    if rules.node_mode != "byo":
        hint = "Remove it, or run the operator with --nodes byo."
        yield Fault(where, "parts of a GPU need nodes that exist already", hint, "InvalidPartition")
    if partition.mode == "mig":
        if partition.count is not None:
            yield Fault(f"{where}.count", "a count belongs to mode accelerator", "Remove it.", "InvalidPartition")
        if not MIG_PROFILE.match(partition.profile):
            message = f'"{partition.profile}" is not a MIG profile'
            yield Fault(f"{where}.profile", message, "Use a profile such as 1g.10gb.", "InvalidPartition")
    elif partition.mode == "accelerator":
        if partition.profile:
            yield Fault(f"{where}.profile", "a profile belongs to mode mig", "Remove it.", "InvalidPartition")
        if partition.count is None or partition.count < 1:
            yield Fault(f"{where}.count", "no number of GPUs is given", "Use 1 or more.", "InvalidPartition")
    else:
        message = f'"{partition.mode}" is not a mode'
        yield Fault(f"{where}.mode", message, "Use mig or accelerator.", "InvalidPartition")


def _inference(workspace: Workspace, inference: Inference, rules: Rules) -> Iterator[Fault]:
    if inference.preset is None and inference.template is None:
        yield Fault("inference", "neither preset nor template is given", "Give one of them.", "InvalidSpec")
    if inference.preset is not None and inference.template is not None:
        yield Fault("inference", "preset and template are both given", "Keep one of them.", "InvalidSpec")
    if inference.preset is not None:
        yield from _preset("inference.preset", workspace, inference.preset, rules)
    yield from check_adapters(inference.adapters)
    if runtime_of(workspace) == "transformers" and (workspace.resource.count or 1) > 1:
        hint = "Set resource.count to 1, or use the vllm runtime."
        yield Fault("resource.count", "the transformers runtime serves on one node only", hint, "InvalidSpec")


def _tuning(workspace: Workspace, tuning: Tuning, rules: Rules) -> Iterator[Fault]:
    if (workspace.resource.count or 1) > 1:
        yield Fault("resource.count", "tuning runs on one node", "Set it to 1.", "InvalidSpec")
    if workspace.resource.partition is not None:
        yield Fault("resource.partition", "tuning does not run on a part of a GPU", "Remove it.", "InvalidPartition")
    if tuning.preset is None:
        yield Fault("tuning.preset", "no preset is given", "Name the model to tune.", "InvalidSpec")
    else:
        yield from _preset("tuning.preset", workspace, tuning.preset, rules)
    if tuning.method.lower() not in METHODS:
        message = f'"{tuning.method}" is not a tuning method' if tuning.method else "no method is given"
        yield Fault("tuning.method", message, "Use lora or qlora.", "InvalidMethod")
    yield from check_input(tuning.input, rules.allow_data_from)
    yield from check_destination(tuning.output)
    yield from _tuning_annotations(workspace, tuning)


def _tuning_annotations(workspace: Workspace, tuning: Tuning) -> Iterator[Fault]:
    annotations = workspace.metadata.annotations
    promote_if = annotations.get(ANNOTATION_PROMOTE_IF)
    if promote_if is not None:
        try:
            parse_promotion(promote_if)
        except ValueError as error:
            yield Fault(f"metadata.annotations[{ANNOTATION_PROMOTE_IF}]", str(error), "", "InvalidAnnotation")
    image = annotations.get(ANNOTATION_CHECKPOINT_IMAGE)
    if image is not None:
        yield from _checkpoint_image(image, tuning)
    secret = annotations.get(ANNOTATION_DATA_SECRET)
    if secret is not None and not DNS_SUBDOMAIN.match(secret):
        hint = "Name a Secret with the key authorization."
        yield Fault(
            f"metadata.annotations[{ANNOTATION_DATA_SECRET}]",
            f'"{secret}" is not the name of a Secret',
            hint,
            "InvalidAnnotation",
        )


def _checkpoint_image(image: str, tuning: Tuning) -> Iterator[Fault]:
    """Another tag than the output's: the checkpoints overwrite it every few minutes."""
    where = f"metadata.annotations[{ANNOTATION_CHECKPOINT_IMAGE}]"
    hint = "Write it as registry/repository:tag."
    if not is_image_reference(image):
        yield Fault(where, f'"{image}" is not an image reference', hint, "InvalidAnnotation")
    elif "@" in image:
        yield Fault(where, f'"{image}" names a digest, which cannot be written to', hint, "InvalidAnnotation")
    elif tuning.output is not None and image == tuning.output.image:
        message = "it is the image of tuning.output, which the checkpoints would overwrite"
        yield Fault(where, message, "Use another tag, such as :checkpoint.", "InvalidAnnotation")


def _preset(where: str, workspace: Workspace, preset: Preset, rules: Rules) -> Iterator[Fault]:
    if not preset.name:
        yield Fault(f"{where}.name", "no name is given", "Name a preset, or a model as org/name.", "UnknownPreset")
    elif not rules.is_model(preset.name):
        yield _unknown(f"{where}.name", "preset", preset.name, rules.nearest_models(preset.name), "UnknownPreset")
    if preset.accessMode == "private" and not preset.presetOptions.image:
        hint = "Give the image that holds the weights, or set accessMode to public."
        yield Fault(f"{where}.presetOptions.image", "accessMode is private and no image is given", hint, "InvalidSpec")
    options = preset.presetOptions
    is_fetched = not options.image and workspace.metadata.annotations.get(ANNOTATION_LOCAL_WEIGHTS) != "true"
    if is_fetched and not options.modelAccessSecret and rules.needs_token(preset.name):
        message = f"{preset.name} is given only to those whom its publisher let in, and no secret is named"
        hint = "Name a Secret whose key HF_TOKEN holds a token of Hugging Face that has access."
        yield Fault(f"{where}.presetOptions.modelAccessSecret", message, hint, "AccessSecretNeeded")


def _unknown(where: str, what: str, name: str, nearest: Sequence[str], reason: str) -> Fault:
    hint = f"Did you mean {' or '.join(nearest)}?" if nearest else ""
    if what == "preset":
        hint = " ".join(filter(None, (hint, "Any Hugging Face model can be named as org/model.")))
    elif not hint:
        hint = "The names are the cloud's own, such as Standard_NC24ads_A100_v4."
    return Fault(where, f'unknown {what} "{name}"', hint, reason)


def warnings(workspace: Workspace, rules: Rules | None = None) -> list[str]:
    """What is accepted and not acted on, not checked, or changed on the way: one sentence each."""
    found = []
    name = workspace.resource.instanceType
    is_asked_for = rules is not None and rules.node_mode != "byo" and _needs_known_type(workspace)
    if rules is not None and is_asked_for and not rules.is_instance_type(name):
        found.append(f'resource.instanceType: "{name}" is not in the catalogue; whether the model fits is not checked')
    reserved = sorted(RESERVED_LABELS & workspace.resource.labelSelector.matchLabels.keys())
    if reserved:
        found.append(f"resource.labelSelector.matchLabels: {', '.join(reserved)} is reserved and left out")
    if workspace.resource.preferredNodes:
        found.append("resource.preferredNodes: not acted on; nodes are chosen by resource.labelSelector")
    enable_lb = workspace.metadata.annotations.get(ANNOTATION_ENABLE_LB)
    if enable_lb is not None and enable_lb != "True":
        found.append(f'{ANNOTATION_ENABLE_LB}: "{enable_lb}" does nothing; only "True" makes a LoadBalancer')
    return [
        *found,
        *_unused_resource(workspace),
        *_unused_annotations(workspace),
        *_unknown_annotations(workspace),
        *_unused_secrets(workspace),
    ]


def _unused_resource(workspace: Workspace) -> Iterator[str]:
    resource, inference = workspace.resource, workspace.inference
    if (resource.count or 1) > 1 and inference is not None and inference.preset is not None:
        yield "resource.count: not acted on with a preset; the estimate decides (status.estimate says why)"
    profile = MIG_PROFILE.match(resource.partition.profile) if resource.partition else None
    if profile and float(profile["memory"]) not in MIG_MEMORY.get(int(profile["slices"]), ()):
        yield f"resource.partition.profile: {profile.group()} is a profile of no GPU that we know"
    strengths = inference is not None and any(
        adapter.strength not in (None, "1.0", "1") for adapter in inference.adapters
    )
    if strengths and runtime_of(workspace) == "vllm":
        yield "inference.adapters.strength: not acted on by the vllm runtime; use kaito.sh/runtime: transformers"


def _unknown_annotations(workspace: Workspace) -> Iterator[str]:
    """Keys in our domain that nobody acts on: KAITO's for streaming, and misspelt ones."""
    for key in workspace.metadata.annotations:
        domain, slash, _ = key.partition("/")
        if key in KNOWN_ANNOTATIONS or not slash or not (domain == "kaito.sh" or domain.endswith(".kaito.sh")):
            continue
        if key in STREAMING or domain == "inference.kaito.sh":
            yield f"{key}: not acted on; the pods fetch the weights themselves"
        else:
            nearest = difflib.get_close_matches(key, KNOWN_ANNOTATIONS, n=1, cutoff=0.8)
            yield f"{key}: not known and not acted on" + (f"; did you mean {nearest[0]}?" if nearest else "")


def _unused_annotations(workspace: Workspace) -> Iterator[str]:
    annotations, inference = workspace.metadata.annotations, workspace.inference
    runtime = annotations.get(ANNOTATION_RUNTIME)
    if runtime is not None and runtime not in RUNTIMES:
        yield f'{ANNOTATION_RUNTIME}: "{runtime}" does nothing; write vllm or transformers'
    if workspace.tuning is None:
        for annotation in (ANNOTATION_PROMOTE_IF, ANNOTATION_CHECKPOINT_IMAGE, ANNOTATION_DATA_SECRET):
            if annotation in annotations:
                yield f"{annotation}: not acted on without tuning"
    if ANNOTATION_DISABLE_BENCHMARK in annotations:
        yield f"{ANNOTATION_DISABLE_BENCHMARK}: not acted on; no benchmark runs at the start"
    if inference is None or inference.template is None:
        return
    for annotation in (ANNOTATION_LOCAL_WEIGHTS, ANNOTATION_RUNTIME, ANNOTATION_PERFORMANCE_MODE):
        if annotation in annotations:
            yield f"{annotation}: not acted on with inference.template, which is used as it is"
    if inference.config:
        yield "inference.config: not acted on with inference.template, which is used as it is"
    if inference.adapters:
        yield "inference.adapters: not acted on with inference.template, which is used as it is"


def _unused_secrets(workspace: Workspace) -> Iterator[str]:
    """An image is pulled with one docker config."""
    given: list[tuple[str, list[str]]] = []
    if workspace.inference:
        for number, adapter in enumerate(workspace.inference.adapters):
            secrets = adapter.source.imagePullSecrets if adapter.source else []
            given.append((f"inference.adapters[{number}].source", secrets))
    if workspace.tuning and workspace.tuning.input:
        given.append(("tuning.input", workspace.tuning.input.imagePullSecrets))
    for where, work in (("inference", workspace.inference), ("tuning", workspace.tuning)):
        if work and work.preset and work.preset.presetOptions.image:
            secrets = work.preset.presetOptions.imagePullSecrets
            given.append((f"{where}.preset.presetOptions", secrets))
    for where, secrets in given:
        if len(secrets) > 1:
            yield f"{where}.imagePullSecrets: only the first, {secrets[0]}, is used; put all registries into it"
