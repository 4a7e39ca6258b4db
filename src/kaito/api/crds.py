"""The CustomResourceDefinitions that the suite owns or needs, as dicts ready for JSON or YAML.

`workspace_crd` is ours. `node_claim_crd`, `machine_crd` and `node_pool_crd` are Karpenter's kinds for clusters that
have none of them: they hold what the suite writes and reads, and keep further fields as they came.

What CEL can say is said here, so that it holds without any webhook; `validation` says all of it, for everyone.
"""

from __future__ import annotations

from kaito.api.schema import (
    Schema,
    array,
    column,
    condition_column,
    conditions,
    crd,
    free_form,
    integer,
    mapping,
    quantity,
    record,
    root,
    rule,
    text,
    version,
    with_rules,
)

V1ALPHA1_INSTANCE_TYPE = "Standard_NC24ads_A100_v4"
"""The instance type that v1alpha1 fills in where a manifest names none; v1beta1 fills in nothing."""


def workspace_crd() -> Schema:
    """`kaito.sh` Workspace, v1alpha1 and v1beta1 (storage)."""
    names = {
        "kind": "Workspace",
        "listKind": "WorkspaceList",
        "plural": "workspaces",
        "singular": "workspace",
        "shortNames": ["wk", "wks"],
        "categories": ["workspace"],
    }
    versions = [
        version("v1alpha1", _workspace(V1ALPHA1_INSTANCE_TYPE), _workspace_columns(), storage=False),
        version("v1beta1", _workspace(""), _workspace_columns(), storage=True),
    ]
    return crd("kaito.sh", names, "Namespaced", versions)


def _workspace_columns() -> list[Schema]:
    """The first five are the ones that people know; the rest shows with `-o wide`."""
    return [
        column("Instance", ".resource.instanceType"),
        condition_column("ResourceReady"),
        condition_column("InferenceReady"),
        condition_column("WorkspaceReady"),
        column("Age", ".metadata.creationTimestamp", "date"),
        condition_column("JobStarted", wide=True),
        condition_column("WorkspaceSucceeded", wide=True),
        column("State", ".status.state", wide=True),
        column("Nodes", ".status.targetNodeCount", "integer", wide=True),
        column("Step", ".status.tuning.step", "integer", wide=True),
        column("Steps", ".status.tuning.totalSteps", "integer", wide=True),
        column("Loss", ".status.tuning.loss", wide=True),
    ]


def _workspace(default_instance_type: str) -> Schema:
    schema = root(
        {
            "resource": _resource(default_instance_type),
            "inference": _inference(),
            "tuning": _tuning(),
            "status": _workspace_status(),
        },
        "A model to serve or to tune, and the GPU machines to do it on.",
    )
    return with_rules(
        schema,
        rule("size(self.metadata.name) <= 63", "metadata.name: at most 63 characters"),
        rule(
            "self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
            "metadata.name: lower-case letters, digits and '-', beginning and ending with a letter or digit",
        ),
        rule("has(self.inference) || has(self.tuning)", "one of inference and tuning has to be given"),
        rule("!(has(self.inference) && has(self.tuning))", "inference and tuning cannot both be given"),
        rule("has(self.inference) == has(oldSelf.inference)", "inference: cannot be added or removed later"),
        rule("has(self.tuning) == has(oldSelf.tuning)", "tuning: cannot be added or removed later"),
    )


def _selector() -> Schema:
    expression = record(
        {"key": text("The label."), "operator": text("In, with one value."), "values": array(text(), "Its value.")},
        "A label and its value, as an expression.",
        required=("key", "operator"),
    )
    selector = record(
        {
            "matchLabels": mapping(text(), "Labels with their values.", maxProperties=64),
            "matchExpressions": array(
                expression, "Expressions that say no more than a label and its value.", maxItems=16
            ),
        },
        "Labels of the nodes to use; nodes that are made get these labels.",
    )
    return {**selector, "x-kubernetes-map-type": "atomic"}


def _resource(default_instance_type: str) -> Schema:
    instance_type = text("The cloud's name of the machine type, such as Standard_NC24ads_A100_v4.", maxLength=128)
    if default_instance_type:
        instance_type["default"] = default_instance_type
    partition = record(
        {
            "mode": text("mig: a slice of a GPU. accelerator: some GPUs of a node.", enum=["mig", "accelerator"]),
            "profile": text("The MIG profile, such as 1g.10gb.", maxLength=32),
            "count": integer("How many GPUs of a node.", minimum=1),
        },
        "A part of a node's GPUs, on nodes that exist already.",
    )
    schema = record(
        {
            "count": integer("Nodes to use; with a preset the estimator decides.", default=1, minimum=1),
            "instanceType": instance_type,
            "labelSelector": _selector(),
            "preferredNodes": array(text(), "Accepted and not acted on."),
            "partition": partition,
        },
        "The machines to use.",
        required=("labelSelector",),
    )
    return with_rules(
        schema,
        rule("self.labelSelector == oldSelf.labelSelector", "resource.labelSelector: cannot be changed"),
        rule(
            "!has(oldSelf.instanceType) || oldSelf.instanceType == '' || "
            "(has(self.instanceType) && self.instanceType == oldSelf.instanceType)",
            "resource.instanceType: cannot be changed once set; make a new Workspace",
        ),
        rule(
            "has(self.partition) == has(oldSelf.partition) && "
            "(!has(self.partition) || self.partition == oldSelf.partition)",
            "resource.partition: cannot be changed",
        ),
    )


def _preset() -> Schema:
    options = record(
        {
            "image": text("An image that holds the weights."),
            "imagePullSecrets": array(text(), "Secrets that pull that image; the first is used."),
            "modelAccessSecret": text("A Secret whose key HF_TOKEN opens a gated model."),
        },
        "Where the weights come from, when not from Hugging Face in the open.",
    )
    schema = record(
        {
            "name": text("A preset's name, or the id of a Hugging Face model (org/model).", maxLength=200),
            "accessMode": text(
                "private: the weights are in presetOptions.image.", enum=["public", "private"], default="public"
            ),
            "presetOptions": options,
        },
        "The model.",
        required=("name",),
    )
    return with_rules(schema, rule("self.name == oldSelf.name", "preset.name: cannot be changed"))


def _volume_source(description: str) -> Schema:
    return free_form(description)


def _data_source() -> Schema:
    return record(
        {
            "name": text("What requests call an adapter; not needed for data.", maxLength=253),
            "urls": array(text(maxLength=4096), "Addresses (http or https) of data files; all are read.", maxItems=256),
            "volumeSource": _volume_source("A Kubernetes volume source."),
            "image": text("An image whose /data holds the files.", maxLength=512),
            "imagePullSecrets": array(text(), "Secrets that pull it; the first is used.", maxItems=16),
        },
        "Exactly one of urls, volumeSource and image.",
    )


def _inference() -> Schema:
    adapter = record(
        {"source": _data_source(), "strength": text("Between 0 and 1; default 1.0.", maxLength=16)},
        "One adapter.",
    )
    schema = record(
        {
            "preset": _preset(),
            "template": free_form("A pod template, instead of a preset."),
            "config": text("A ConfigMap with the key inference_config.yaml.", maxLength=253),
            "adapters": array(adapter, "LoRA adapters, served by name.", maxItems=10),
        },
        "Serve a model.",
    )
    return with_rules(
        schema,
        rule("has(self.preset) || has(self.template)", "inference: one of preset and template has to be given"),
        rule("!(has(self.preset) && has(self.template))", "inference: preset and template cannot both be given"),
        rule("has(self.preset) == has(oldSelf.preset)", "inference.preset: cannot be added or removed later"),
    )


def _tuning() -> Schema:
    destination = record(
        {
            "volumeSource": _volume_source("The volume that receives the adapter."),
            "image": text("The image to push, registry/repository:tag.", maxLength=512),
            "imagePushSecret": text("A Secret of type kubernetes.io/dockerconfigjson.", maxLength=253),
        },
        "Exactly one of volumeSource and image.",
    )
    schema = record(
        {
            "preset": _preset(),
            "method": text("lora or qlora, in any case.", maxLength=16),
            "config": text("A ConfigMap with the key training_config.yaml.", maxLength=253),
            "input": _data_source(),
            "output": destination,
        },
        "Fine-tune a model.",
        required=("preset", "input", "output"),
    )
    return with_rules(
        schema,
        rule(
            "!has(self.method) || self.method.matches('^(?i)(lora|qlora)$')",
            "tuning.method: one of lora, qlora",
        ),
        rule(
            "!has(self.method) || !has(oldSelf.method) || "
            "self.method.matches('^(?i)q') == oldSelf.method.matches('^(?i)q')",
            "tuning.method: cannot be changed",
        ),
    )


def _workspace_status() -> Schema:
    adapter = record(
        {"image": text("Where it was pushed."), "digest": text("Its digest.")}, "The adapter that was made."
    )
    tuning = record(
        {
            "step": integer("Optimizer steps done."),
            "totalSteps": integer("Optimizer steps planned."),
            "epoch": text("Passes over the data, fractional."),
            "loss": text("Of the last step."),
            "evalLoss": text("Of the tuned model on the held-out rows."),
            "baseEvalLoss": text("Of the base model on the same rows."),
            "perplexity": text("Of the tuned model on the held-out rows."),
            "basePerplexity": text("Of the base model on the same rows."),
            "exactMatch": text("The share of short answers that are right to the letter, 0 to 1."),
            "baseExactMatch": text("The same of the base model."),
            "scoredOn": text("eval, or train where nothing was held out."),
            "tokensPerSecond": integer("Tokens trained per second."),
            "etaSeconds": integer("Seconds until the training ends, from the last write on."),
            "startedAt": text("When the training began."),
            "finishedAt": text("When it ended."),
            "specHash": text("Of what was trained: another value trains again."),
            "adapter": adapter,
        },
        "How the training goes, and what it made.",
    )
    estimate = record(
        {
            "weights": text("Memory of the weights."),
            "kvCache": text("Memory of keys and values."),
            "overhead": text("Memory beside the two."),
            "perGPU": text("Memory of the fullest GPU."),
            "nodes": integer("How many nodes that takes."),
            "why": text("The same in a sentence."),
        },
        "What the model needs, and why.",
    )
    return record(
        {
            "conditions": conditions(),
            "workerNodes": array(text(), "The nodes in use."),
            "targetNodeCount": integer("How many nodes it takes.", format="int32"),
            "state": text("Pending, Running, Succeeded, Ready, NotReady, Failed or Deleting."),
            "tuning": tuning,
            "estimate": estimate,
            "performance": free_form("Kept as KAITO wrote it; not acted on."),
        },
        "What the controller found and did.",
    )


def node_claim_crd() -> Schema:
    """`karpenter.sh` NodeClaim, v1beta1 and v1 (storage)."""
    names = {
        "kind": "NodeClaim",
        "listKind": "NodeClaimList",
        "plural": "nodeclaims",
        "singular": "nodeclaim",
        "categories": ["karpenter"],
    }
    spec = _claim_spec()
    immutable = with_rules(spec, rule("self == oldSelf", "spec is immutable"))
    versions = [
        version("v1beta1", _claim(spec, ()), _claim_columns("karpenter.sh/nodepool"), storage=False),
        version("v1", _claim(immutable, ("spec",)), _claim_columns("karpenter.sh/nodepool"), storage=True),
    ]
    return crd("karpenter.sh", names, "Cluster", versions)


def machine_crd() -> Schema:
    """`karpenter.sh` Machine, v1alpha5: what NodeClaims were before."""
    names = {
        "kind": "Machine",
        "listKind": "MachineList",
        "plural": "machines",
        "singular": "machine",
        "categories": ["karpenter"],
    }
    columns = _claim_columns("karpenter.sh/provisioner-name")
    return crd(
        "karpenter.sh", names, "Cluster", [version("v1alpha5", _claim(_claim_spec(), ()), columns, storage=True)]
    )


def node_pool_crd() -> Schema:
    """`karpenter.sh` NodePool, v1: written only in the karpenter mode."""
    names = {
        "kind": "NodePool",
        "listKind": "NodePoolList",
        "plural": "nodepools",
        "singular": "nodepool",
        "categories": ["karpenter"],
    }
    spec = free_form(
        properties={
            "template": free_form(),
            "disruption": free_form(),
            "limits": mapping(quantity()),
            "weight": integer(minimum=1, maximum=100),
            "replicas": integer(minimum=0),
        }
    )
    status = free_form(
        properties={"conditions": conditions(), "resources": mapping(quantity()), "nodes": integer(format="int64")}
    )
    schema = root({"spec": spec, "status": status}, "A group of nodes of one shape.", required=("spec",))
    columns = [
        column("NodeClass", ".spec.template.spec.nodeClassRef.name"),
        column("Nodes", ".status.nodes", "integer"),
        condition_column("Ready"),
        column("Age", ".metadata.creationTimestamp", "date"),
    ]
    return crd("karpenter.sh", names, "Cluster", [version("v1", schema, columns, storage=True)])


def _claim_columns(pool_label: str) -> list[Schema]:
    label = ".metadata.labels.{}"
    return [
        column("Type", label.format(r"node\.kubernetes\.io/instance-type")),
        column("Capacity", label.format(r"karpenter\.sh/capacity-type")),
        column("Zone", label.format(r"topology\.kubernetes\.io/zone")),
        column("Node", ".status.nodeName"),
        condition_column("Ready"),
        column("Age", ".metadata.creationTimestamp", "date"),
        column("ID", ".status.providerID", wide=True),
        column("Pool", label.format(pool_label.replace(".", r"\.")), wide=True),
    ]


def _claim_spec() -> Schema:
    taint = record({"key": text(), "value": text(), "effect": text()}, required=("key", "effect"))
    requirement = record(
        {
            "key": text(maxLength=316),
            "operator": text(),
            "values": array(text(), maxItems=200),
            "minValues": integer(minimum=1, maximum=50),
        },
        required=("key", "operator"),
    )
    reference = {key: text() for key in ("group", "kind", "name", "apiVersion")}
    return free_form(
        properties={
            "requirements": array(requirement, maxItems=100),
            "taints": array(taint),
            "startupTaints": array(taint),
            "resources": record({"requests": mapping(quantity())}),
            "nodeClassRef": record(dict(reference)),
            "machineTemplateRef": record(dict(reference)),
            "terminationGracePeriod": text(pattern="^([0-9]+(s|m|h))+$"),
            "expireAfter": text(pattern="^(([0-9]+(s|m|h))+|Never)$"),
        }
    )


def _claim(spec: Schema, required: tuple[str, ...]) -> Schema:
    status = free_form(
        properties={
            "conditions": conditions(),
            "nodeName": text(),
            "providerID": text(),
            "imageID": text(),
            "capacity": mapping(quantity()),
            "allocatable": mapping(quantity()),
            "lastPodEventTime": text(format="date-time"),
        }
    )
    return root({"spec": spec, "status": status}, "A node that is asked for.", required=required)
