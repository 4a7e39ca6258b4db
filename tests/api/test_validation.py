"""The rules of a Workspace, as tables: what is changed in a valid one, and what is then said, where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from kaito.api.faults import Fault
from kaito.api.validation import NodeMode, Rules, match_labels, validate, warnings
from tests.workspace.builders import INFERENCE, TUNING, changed, decode

MODELS = {"tiny-phi-3", "phi-4", "llama-3.1-8b-instruct"}
TYPES = {"standard_nc6s_v3", "standard_nc24ads_a100_v4"}

Change = dict[str, Any]


def rules(mode: NodeMode = "gpu-provisioner", allow: Sequence[str] = ()) -> Rules:
    return Rules(
        node_mode=mode,
        is_model=lambda name: name.lower() in MODELS or name.count("/") == 1,
        nearest_models=lambda name: ["tiny-phi-3"] if "phi" in name else [],
        is_instance_type=lambda name: name.lower() in TYPES,
        nearest_instance_types=lambda name: ["Standard_NC6s_v3"] if "NC6" in name else [],
        node_classes=("gpu-default", "gpu-large"),
        allow_data_from=allow,
    )


def faults(base: dict[str, Any], change: Change, checked: Rules) -> list[Fault]:
    return validate(decode(changed(base, change)), checked)


def annotation(**annotations: str) -> Change:
    return {"metadata.annotations": {f"kaito.sh/{k.replace('_', '-')}": v for k, v in annotations.items()}}


def adapter(**more: Any) -> Change:
    source = {"name": "a1", "image": "registry.example.com/team/a1:1", **more.pop("source", {})}
    return {"inference.adapters": [{"source": {k: v for k, v in source.items() if v is not None}, **more}]}


def template() -> Change:
    return {"inference.preset": None, "inference.template": {"spec": {"containers": []}}}


GOOD: dict[str, tuple[dict[str, Any], Change]] = {
    "tuning as in the README": (TUNING, {}),
    "inference": (INFERENCE, {}),
    "name of one letter": (INFERENCE, {"metadata.name": "a"}),
    "name of digits": (INFERENCE, {"metadata.name": "007"}),
    "name of 63": (INFERENCE, {"metadata.name": "a" * 63}),
    "name with dashes": (INFERENCE, {"metadata.name": "a--b-c"}),
    "any Hugging Face id": (INFERENCE, {"inference.preset.name": "someone/Some-Model"}),
    "preset in capitals": (INFERENCE, {"inference.preset.name": "PHI-4"}),
    "instance type in capitals": (INFERENCE, {"resource.instanceType": "STANDARD_NC6S_V3"}),
    "instance type that only the user knows": (
        INFERENCE,
        {"resource.instanceType": "Standard_New", **annotation(bypass_resource_checks="")},
    ),
    "an Azure type newer than the catalogue": (INFERENCE, {"resource.instanceType": "Standard_NC128xl_Z900_v9"}),
    "template on a type of unknown GPUs": (INFERENCE, {**template(), "resource.instanceType": "Standard_D4s_v5"}),
    "template": (INFERENCE, template()),
    "count of 4 for inference": (INFERENCE, {"resource.count": 4}),
    "no count": (INFERENCE, {"resource.count": None}),
    "one-value In": (
        INFERENCE,
        {"resource.labelSelector": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}},
    ),
    "reserved label beside another": (
        INFERENCE,
        {"resource.labelSelector": {"matchLabels": {"kaito.sh/workspace": "x", "app": "y"}}},
    ),
    "method in capitals": (TUNING, {"tuning.method": "QLoRA"}),
    "method lora": (TUNING, {"tuning.method": "lora"}),
    "several URLs": (TUNING, {"tuning.input.urls": ["https://a.example/x", "http://b.example/y"]}),
    "URL with a port and a query": (TUNING, {"tuning.input.urls": ["https://a.example:8443/x?download=true"]}),
    "URL with a public address": (TUNING, {"tuning.input.urls": ["https://8.8.8.8/x"]}),
    "input image": (TUNING, {"tuning.input": {"image": "registry.example.com/data:1"}}),
    "input volume": (TUNING, {"tuning.input": {"volumeSource": {"persistentVolumeClaim": {"claimName": "d"}}}}),
    "output volume": (TUNING, {"tuning.output": {"volumeSource": {"persistentVolumeClaim": {"claimName": "o"}}}}),
    "output with a port": (TUNING, {"tuning.output.image": "127.0.0.1:5010/team/adapter:0.0.1"}),
    "output with a digest": (TUNING, {"tuning.output.image": "r.example/a@sha256:" + "0" * 64}),
    "output without a registry": (TUNING, {"tuning.output.image": "library/adapter"}),
    "private with image": (
        INFERENCE,
        {"inference.preset": {"name": "phi-4", "accessMode": "private", "presetOptions": {"image": "r.example/m:1"}}},
    ),
    "adapter by image": (INFERENCE, adapter()),
    "adapter by volume": (INFERENCE, adapter(source={"image": None, "volumeSource": {"emptyDir": {}}})),
    "adapter of strength 0": (INFERENCE, adapter(strength="0")),
    "adapter of strength 1.0": (INFERENCE, adapter(strength="1.0")),
    "adapter of strength .5": (INFERENCE, adapter(strength=".5")),
    "adapter with dots": (INFERENCE, adapter(source={"name": "team.a1"})),
    "vllm": (INFERENCE, annotation(runtime="vllm")),
    "transformers": (INFERENCE, annotation(runtime="transformers")),
    "not served after tuning": (TUNING, annotation(serve_after_tuning="false")),
    "served after tuning": (TUNING, annotation(serve_after_tuning="true")),
    "ubuntu": (INFERENCE, annotation(node_image_family="ubuntu")),
    "azurelinux": (INFERENCE, annotation(node_image_family="azurelinux")),
    "image family as KAITO lets it be written": (INFERENCE, annotation(node_image_family=" AzureLinux ")),
    "no labels": (INFERENCE, {"resource.labelSelector": {}}),
    "a runtime that means nothing": (INFERENCE, annotation(runtime="tgi")),
    "performance": (INFERENCE, annotation(performance_mode="throughput")),
    "local weights": (INFERENCE, annotation(use_local_weights="true")),
    "an annotation that means nothing to us": (INFERENCE, {"metadata.annotations": {"example.com/x": "y"}}),
}


@pytest.mark.parametrize(("base", "change"), GOOD.values(), ids=GOOD)
def test_accepted(base: dict[str, Any], change: Change) -> None:
    assert faults(base, change, rules()) == []


# (base, what is changed, the field that is named, words of the sentence with its hint)
BAD: dict[str, tuple[dict[str, Any], Change, str, str]] = {
    # the name
    "capitals in the name": (INFERENCE, {"metadata.name": "Served"}, "metadata.name", "lower-case"),
    "name with a dot": (INFERENCE, {"metadata.name": "a.b"}, "metadata.name", "not a DNS label"),
    "name of 64": (INFERENCE, {"metadata.name": "a" * 64}, "metadata.name", "at most 63"),
    "name with an underscore": (INFERENCE, {"metadata.name": "a_b"}, "metadata.name", '"a_b"'),
    "name that begins with a dash": (INFERENCE, {"metadata.name": "-a"}, "metadata.name", "beginning"),
    "name that ends with a dash": (INFERENCE, {"metadata.name": "a-"}, "metadata.name", "ending"),
    "no name": (INFERENCE, {"metadata.name": ""}, "metadata.name", '""'),
    "name with a newline": (INFERENCE, {"metadata.name": "a\n"}, "metadata.name", "DNS label"),
    # inference or tuning
    "neither": (INFERENCE, {"inference": None}, "inference", "neither inference nor tuning"),
    "both": (INFERENCE, {"tuning": TUNING["tuning"]}, "tuning", "both given"),
    # annotations
    "odd node image": (INFERENCE, annotation(node_image_family="windows"), "image-family", "ubuntu, azurelinux"),
    "odd performance": (INFERENCE, annotation(performance_mode="fast"), "performance-mode", "balanced, interactivity"),
    "odd local weights": (INFERENCE, annotation(use_local_weights="yes"), "use-local-weights", "true, false"),
    "odd serving": (TUNING, annotation(serve_after_tuning="no"), "serve-after-tuning", "true, false"),
    # resource
    "only a reserved label": (
        INFERENCE,
        {"resource.labelSelector": {"matchLabels": {"kaito.sh/workspace": "x"}}},
        "matchLabels",
        "kaito.sh/workspace",
    ),
    "count of 0": (INFERENCE, {"resource.count": 0}, "resource.count", "1 or more"),
    "count below 0": (INFERENCE, {"resource.count": -1}, "resource.count", "-1"),
    "no instance type": (INFERENCE, {"resource.instanceType": None}, "resource.instanceType", "no instance type"),
    "misspelt instance type": (
        INFERENCE,
        {"resource.instanceType": "Standard_NC6"},
        "resource.instanceType",
        "Did you mean Standard_NC6s_v3?",
    ),
    "instance type like none": (INFERENCE, {"resource.instanceType": "huge"}, "resource.instanceType", "cloud's own"),
    "partition on made nodes": (
        INFERENCE,
        {"resource.partition": {"mode": "mig", "profile": "1g.10gb"}},
        "resource.partition",
        "--nodes byo",
    ),
    # inference
    "no preset and no template": (INFERENCE, {"inference": {}}, "inference", "neither preset nor template"),
    "preset and template": (INFERENCE, {"inference.template": {"spec": {}}}, "inference", "both given"),
    "unknown preset": (
        INFERENCE,
        {"inference.preset.name": "phi-5"},
        "inference.preset.name",
        "Did you mean tiny-phi-3",
    ),
    "unknown preset like none": (INFERENCE, {"inference.preset.name": "x"}, "inference.preset.name", "org/model"),
    "no preset name": (INFERENCE, {"inference.preset.name": ""}, "inference.preset.name", "no name"),
    "id of three parts": (INFERENCE, {"inference.preset.name": "a/b/c"}, "inference.preset.name", "unknown preset"),
    "private without image": (
        INFERENCE,
        {"inference.preset.accessMode": "private"},
        "presetOptions.image",
        "no image is given",
    ),
    "transformers on two nodes": (
        INFERENCE,
        {**annotation(runtime="transformers"), "resource.count": 2},
        "resource.count",
        "one node only",
    ),
    # adapters
    "adapter without source": (INFERENCE, {"inference.adapters": [{}]}, "adapters[0].source", "no source"),
    "adapter without name": (INFERENCE, adapter(source={"name": None}), "adapters[0].source.name", "no name"),
    "adapter in capitals": (INFERENCE, adapter(source={"name": "A1"}), "adapters[0].source.name", '"A1"'),
    "adapter name too long": (INFERENCE, adapter(source={"name": "a" * 254}), "source.name", "not a name"),
    "adapter by URL": (INFERENCE, adapter(source={"urls": ["https://a.example/x"]}), "source.urls", "not come from"),
    "adapter of nothing": (INFERENCE, adapter(source={"image": None}), "adapters[0].source", "no source"),
    "adapter of both": (
        INFERENCE,
        adapter(source={"volumeSource": {"emptyDir": {}}}),
        "adapters[0].source",
        "exactly one",
    ),
    "adapter of no image": (INFERENCE, adapter(source={"image": "HTTP://x"}), "source.image", "registry/repository"),
    "two adapters of one name": (
        INFERENCE,
        {"inference.adapters": [adapter()["inference.adapters"][0]] * 2},
        "inference.adapters",
        '2 adapters have the name "a1"',
    ),
    "eleven adapters": (
        INFERENCE,
        {"inference.adapters": [adapter(source={"name": f"a{n}"})["inference.adapters"][0] for n in range(11)]},
        "inference.adapters",
        "At most 10",
    ),
    # tuning
    "tuning on two nodes": (TUNING, {"resource.count": 2}, "resource.count", "one node"),
    "tuning without preset": (TUNING, {"tuning.preset": None}, "tuning.preset", "no preset"),
    "tuning an unknown preset": (TUNING, {"tuning.preset.name": "phi"}, "tuning.preset.name", "Did you mean"),
    "no method": (TUNING, {"tuning.method": None}, "tuning.method", "no method"),
    "odd method": (TUNING, {"tuning.method": "dpo"}, "tuning.method", "lora or qlora"),
    "no input": (TUNING, {"tuning.input": None}, "tuning.input", "no input"),
    "input of nothing": (TUNING, {"tuning.input": {}}, "tuning.input", "no source"),
    "input of two": (TUNING, {"tuning.input.image": "r.example/d:1"}, "tuning.input", "urls and image"),
    "input of three": (
        TUNING,
        {"tuning.input.image": "r.example/d:1", "tuning.input.volumeSource": {"emptyDir": {}}},
        "tuning.input",
        "urls and volumeSource and image",
    ),
    "input image that is none": (TUNING, {"tuning.input": {"image": "a b"}}, "tuning.input.image", '"a b"'),
    "no output": (TUNING, {"tuning.output": None}, "tuning.output", "no output"),
    "output of nothing": (TUNING, {"tuning.output": {}}, "tuning.output", "no destination"),
    "output of both": (TUNING, {"tuning.output.volumeSource": {"emptyDir": {}}}, "tuning.output", "both given"),
    "output without secret": (TUNING, {"tuning.output.imagePushSecret": None}, "imagePushSecret", "dockerconfigjson"),
    "output of the README as it stands": (
        TUNING,
        {"tuning.output.image": "ACR_REPO_HERE.azurecr.io/IMAGE_NAME_HERE:0.0.1"},
        "tuning.output.image",
        "not an image reference",
    ),
}

PARTITIONS: dict[str, tuple[Change, str, str]] = {
    "no mode": ({"resource.partition": {}}, "partition.mode", "mig or accelerator"),
    "odd mode": ({"resource.partition": {"mode": "half"}}, "partition.mode", '"half"'),
    "mig without profile": ({"resource.partition": {"mode": "mig"}}, "partition.profile", "1g.10gb"),
    "mig of an odd profile": (
        {"resource.partition": {"mode": "mig", "profile": "10gb"}},
        "partition.profile",
        '"10gb"',
    ),
    "mig of no slices": ({"resource.partition": {"mode": "mig", "profile": "0g.5gb"}}, "partition.profile", "0g.5gb"),
    "mig with a count": (
        {"resource.partition": {"mode": "mig", "profile": "1g.10gb", "count": 1}},
        "partition.count",
        "mode accelerator",
    ),
    "accelerator without count": ({"resource.partition": {"mode": "accelerator"}}, "partition.count", "1 or more"),
    "accelerator of none": (
        {"resource.partition": {"mode": "accelerator", "count": 0}},
        "partition.count",
        "1 or more",
    ),
    "accelerator with a profile": (
        {"resource.partition": {"mode": "accelerator", "count": 1, "profile": "1g.5gb"}},
        "partition.profile",
        "mode mig",
    ),
    "an instance type": ({"resource.instanceType": "Standard_NC6s_v3"}, "resource.instanceType", "makes no nodes"),
}

STRENGTHS = ["-0.1", "1.1", "2", "strong", "", "1,0", "nan", "inf", "-1", "0x1"]
NOT_URLS = [
    "ftp://a.example/x",
    "a.example/x",
    "file:///etc/passwd",
    "s3://bucket/x",
    "https://",
    "http:///x",
    "",
    "//a",
]
NOT_URLS += ["javascript:alert(1)", "http://[::1", "data:text/plain,x", "https:a.example"]
PRIVATE = [
    "localhost",
    "localhost.",
    "LOCALHOST",
    "a.localhost",
    "127.0.0.1",
    "127.1.2.3",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.169.254",
    "0.0.0.0",
    "100.64.0.1",
    "[::1]",
    "[::]",
    "[fe80::1]",
    "[fd00::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:10.0.0.1]",
]
METADATA = ["metadata.google.internal", "metadata.google", "instance-data.ec2.internal", "Metadata.Google.Internal."]
NOT_IMAGES = [
    "a/B",
    "r.example/",
    "/b",
    "r.example/b:",
    "r.example/b:t:t",
    "r.example/b@sha256:12",
    "b c",
    "http://r/b",
]
NOT_IMAGES += ["r.example/b:" + "t" * 129, "r.example//b", "r.example/b_", "r.example/-b", "r.example/b:-t"]
IMAGES = [
    "b",
    "a/b",
    "r.example/b",
    "r.example:5000/b:t",
    "localhost:5010/a/b/c:1.0_x-y",
    "r.example/a__b/c.d-e:latest",
]
IMAGES += ["mcr.microsoft.com/aks/kaito/kaito-phi-3:0.0.1", "127.0.0.1:5010/x:1", "r.example/b:t@sha256:" + "a" * 64]


def assert_told(found: list[Fault], field: str, words: str) -> None:
    texts = [str(fault) for fault in found]
    assert any(field in fault.field and words in str(fault) for fault in found), texts
    for fault in found:
        assert fault.hint, f"{fault} has no way out"
        assert fault.reason.isalnum()


@pytest.mark.parametrize(("base", "change", "field", "words"), BAD.values(), ids=BAD)
def test_refused(base: dict[str, Any], change: Change, field: str, words: str) -> None:
    assert_told(faults(base, change, rules()), field, words)


@pytest.mark.parametrize(("change", "field", "words"), PARTITIONS.values(), ids=PARTITIONS)
def test_refused_on_existing_nodes(change: Change, field: str, words: str) -> None:
    assert_told(faults(INFERENCE, {"resource.instanceType": None, **change}, rules("byo")), field, words)


@pytest.mark.parametrize("strength", STRENGTHS)
def test_strength_refused(strength: str) -> None:
    assert_told(faults(INFERENCE, adapter(strength=strength), rules()), "strength", f'"{strength}"')


@pytest.mark.parametrize("url", NOT_URLS)
def test_url_refused(url: str) -> None:
    assert_told(faults(TUNING, {"tuning.input.urls": [url]}, rules()), "tuning.input.urls[0]", "https://host/path")


@pytest.mark.parametrize("host", PRIVATE)
def test_private_address_refused(host: str) -> None:
    told = faults(TUNING, {"tuning.input.urls": [f"http://{host}:8080/x"]}, rules())
    assert_told(told, "tuning.input.urls[0]", "--allow-data-from")


@pytest.mark.parametrize("host", METADATA)
def test_metadata_endpoint_refused_even_where_private_networks_are_allowed(host: str) -> None:
    told = faults(TUNING, {"tuning.input.urls": [f"http://{host}/x"]}, rules(allow=["0.0.0.0/0"]))
    assert_told(told, "tuning.input.urls[0]", "metadata endpoint")


@pytest.mark.parametrize("image", NOT_IMAGES)
def test_image_refused(image: str) -> None:
    assert_told(faults(TUNING, {"tuning.output.image": image}, rules()), "tuning.output.image", "registry/repository")


@pytest.mark.parametrize("image", IMAGES)
def test_image_accepted(image: str) -> None:
    assert faults(TUNING, {"tuning.output.image": image}, rules()) == []


ALLOWED = {
    "127.0.0.1": ["127.0.0.0/8"],
    "localhost": ["127.0.0.0/8"],
    "10.1.2.3": ["192.168.0.0/16", "10.0.0.0/8"],
    "[fd00::1]": ["fd00::/8"],
    "[::ffff:10.0.0.1]": ["10.0.0.0/8"],
}


@pytest.mark.parametrize(("host", "networks"), ALLOWED.items(), ids=ALLOWED)
def test_private_address_allowed_by_the_operator(host: str, networks: list[str]) -> None:
    assert faults(TUNING, {"tuning.input.urls": [f"http://{host}/x"]}, rules(allow=networks)) == []


def test_an_allowed_network_allows_no_other() -> None:
    assert faults(TUNING, {"tuning.input.urls": ["http://10.0.0.1/x"]}, rules(allow=["10.1.0.0/16"]))


@pytest.mark.parametrize("operator", ["NotIn", "Exists", "DoesNotExist"])
def test_selector_that_is_no_label(operator: str) -> None:
    expressions = [{"key": "a", "operator": operator, "values": ["b"]}]
    told = faults(INFERENCE, {"resource.labelSelector.matchExpressions": expressions}, rules())
    assert_told(told, "matchExpressions[0]", "Use matchLabels")


@pytest.mark.parametrize("values", [[], ["a", "b"]], ids=["none", "two"])
def test_selector_of_not_one_value(values: list[str]) -> None:
    expressions = [{"key": "a", "operator": "In", "values": values}]
    told = faults(INFERENCE, {"resource.labelSelector.matchExpressions": expressions}, rules())
    assert_told(told, "matchExpressions[0]", "one value")


@pytest.mark.parametrize("name", ["gpu-default", "gpu-large"])
def test_node_class_accepted(name: str) -> None:
    assert faults(INFERENCE, annotation(node_class_name=name), rules("karpenter")) == []


def test_an_empty_node_class_is_none() -> None:
    assert faults(INFERENCE, annotation(node_class_name=""), rules("karpenter")) == []


def test_node_class_refused() -> None:
    told = faults(INFERENCE, annotation(node_class_name="mine"), rules("karpenter"))
    assert_told(told, "node-class-name", "gpu-default, gpu-large")


def test_node_class_means_nothing_without_karpenter() -> None:
    assert faults(INFERENCE, annotation(node_class_name="mine"), rules()) == []


def test_the_default_type_of_v1alpha1_is_no_fault_on_existing_nodes() -> None:
    assert faults(INFERENCE, {"resource.instanceType": "Standard_NC24ads_A100_v4"}, rules("byo")) == []


def test_tuning_does_not_run_on_a_part() -> None:
    change = {"resource.partition": {"mode": "accelerator", "count": 1}, "resource.instanceType": None}
    assert_told(faults(TUNING, change, rules("byo")), "resource.partition", "part of a GPU")


def test_all_faults_are_found_at_once() -> None:
    change = {"metadata.name": "A", "tuning.method": "x", "tuning.output": None, "resource.count": 3}
    assert len(faults(TUNING, change, rules())) == 4


def test_reserved_labels_are_left_out() -> None:
    selector = decode(INFERENCE).resource.labelSelector
    assert match_labels(selector) == {"app": "phi"}
    reserved = changed(INFERENCE, {"resource.labelSelector.matchLabels": {"kaito.sh/workspace": "x", "app": "phi"}})
    assert match_labels(decode(reserved).resource.labelSelector) == {"app": "phi"}


TEMPLATE = {"template": {"spec": {"containers": [{"name": "main", "image": "mine:1"}]}}}
ADAPTER = {"source": {"name": "a1", "image": "r.example/a1:1"}}
WARNED: dict[str, tuple[Change, str]] = {
    "preferred nodes": ({"resource.preferredNodes": ["a"]}, "preferredNodes"),
    "reserved label": ({"resource.labelSelector.matchLabels": {"kaito.sh/ragengine": "x", "a": "b"}}, "ragengine"),
    "load balancer in small letters": (annotation(enablelb="true"), 'only "True"'),
    "benchmark": (annotation(disable_benchmark="true"), "disable-benchmark"),
    "odd runtime": (annotation(runtime="tgi"), "write vllm or transformers"),
    "empty runtime": (annotation(runtime=""), '"" does nothing'),
    "count of a preset": ({"resource.count": 3}, "the estimate decides"),
    "streaming": (annotation(model_streaming="disabled"), "fetch the weights themselves"),
    "misspelt annotation": (annotation(enable_lb="True"), "did you mean kaito.sh/enablelb"),
    "odd annotation": (annotation(zzz="1"), "kaito.sh/zzz: not known"),
    "strength with vllm": (
        {**adapter(strength="0.5"), **annotation(runtime="vllm")},
        "not acted on by the vllm runtime",
    ),
    "config of a template": ({"inference": {**TEMPLATE, "config": "c"}}, "inference.config"),
    "adapters of a template": ({"inference": {**TEMPLATE, "adapters": [ADAPTER]}}, "inference.adapters:"),
    "local weights of a template": (
        {"inference": TEMPLATE, **annotation(use_local_weights="true")},
        "use-local-weights",
    ),
    "secrets of an adapter": (
        {"inference.adapters": [{"source": {**ADAPTER["source"], "imagePullSecrets": ["a", "b"]}}]},
        "only the first, a,",
    ),
    "secrets of the weights": (
        {"inference.preset.presetOptions": {"image": "r.example/w:1", "imagePullSecrets": ["a", "b"]}},
        "inference.preset.presetOptions.imagePullSecrets",
    ),
}


@pytest.mark.parametrize(("change", "words"), WARNED.values(), ids=WARNED)
def test_warned(change: Change, words: str) -> None:
    told = warnings(decode(changed(INFERENCE, change)))
    assert len(told) == 1
    assert words in told[0]


def test_a_type_that_is_not_known_is_warned_of_where_a_model_has_to_fit() -> None:
    new = {"resource.instanceType": "Standard_NC128xl_Z900_v9"}
    assert any("whether the model fits" in one for one in warnings(decode(changed(INFERENCE, new)), rules()))
    assert warnings(decode(changed(INFERENCE, {**template(), **new})), rules()) == []
    assert warnings(decode(INFERENCE), rules()) == []


def test_a_profile_of_no_known_gpu_is_warned_of() -> None:
    part = {"resource.partition": {"mode": "mig", "profile": "9g.99gb"}, "resource.instanceType": None}
    assert any("9g.99gb" in warning for warning in warnings(decode(changed(INFERENCE, part))))
    part["resource.partition"] = {"mode": "mig", "profile": "1g.10gb"}
    assert warnings(decode(changed(INFERENCE, part))) == []


GATED = replace(rules(), needs_token=lambda name: name.startswith("llama"))
TOKENS: dict[str, tuple[Change, bool]] = {
    "gated without": ({"inference.preset": {"name": "llama-3.1-8b-instruct"}}, False),
    "gated with": (
        {"inference.preset": {"name": "llama-3.1-8b-instruct", "presetOptions": {"modelAccessSecret": "hf"}}},
        True,
    ),
    "gated, from an image": (
        {"inference.preset": {"name": "llama-3.1-8b-instruct", "presetOptions": {"image": "r.example/l:1"}}},
        True,
    ),
    "gated, of the node": (
        {"inference.preset": {"name": "llama-3.1-8b-instruct"}, **annotation(use_local_weights="true")},
        True,
    ),
    "open without": ({}, True),
    "open with": ({"inference.preset.presetOptions": {"modelAccessSecret": "hf"}}, True),
}


@pytest.mark.parametrize(("change", "good"), TOKENS.values(), ids=TOKENS)
def test_gated_models_need_a_token(change: Change, good: bool) -> None:
    found = faults(INFERENCE, change, GATED)
    assert bool(found) != good
    if not good:
        assert_told(found, "inference.preset.presetOptions.modelAccessSecret", "HF_TOKEN")


def test_nothing_to_warn_of() -> None:
    assert warnings(decode(INFERENCE)) == []
    assert warnings(decode(TUNING)) == []
