"""The chart `charts/kaito`, made whole from the objects; `scripts/make_chart.py` writes it, and a test compares."""

from __future__ import annotations

import json
from collections import defaultdict

import kaito
from kaito.install.helm import Printer
from kaito.install.objects.common import PARTIALS
from kaito.install.objects.everything import documents
from kaito.install.schema import values_schema, values_yaml
from kaito.install.template import Document
from kaito.install.values import default_values

NOTICE = "{{- /* Made by scripts/make_chart.py from src/kaito/install/objects; change it there. */ -}}\n"

CHART = """\
apiVersion: v2
name: kaito
description: One Workspace serves or fine-tunes a language model.
type: application
version: {version}
appVersion: "{version}"
kubeVersion: ">=1.27.0-0"
keywords: [llm, inference, fine-tuning, gpu, karpenter]
"""

HELPERS = """\
{{- /* The reference of an image: (list . IMAGE). A digest wins over the tag; the tag's default is the version. */ -}}
{{- define "kaito.image" -}}
{{- $root := index . 0 }}
{{- $image := index . 1 }}
{{- $registry := $root.Values.global.imageRegistry | default $image.registry | trimSuffix "/" }}
{{- $name := $registry | empty | ternary $image.repository (printf "%s/%s" $registry $image.repository) }}
{{- if $image.digest }}
{{- printf "%s@%s" $name $image.digest }}
{{- else }}
{{- printf "%s:%s" $name ($image.tag | default $root.Chart.AppVersion) }}
{{- end }}
{{- end }}

{{- /* "yes" when no CRD of this name is there, or when this release made it: (list . NAME). */ -}}
{{- define "kaito.isFree" -}}
{{- $root := index . 0 }}
{{- $found := lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" (index . 1) }}
{{- $owner := dig "metadata" "annotations" "meta.helm.sh/release-name" "" ($found | default dict) }}
{{- if or (not $found) (eq $owner $root.Release.Name) }}yes{{ end }}
{{- end }}

"""

NOTES = """\
KAITO {{ .Chart.AppVersion }} is in the namespace {{ .Release.Namespace }}.
{{- if and (eq .Values.nodes "gpu-provisioner") (not .Values.provisioner.enabled) }}

Nodes are asked for with NodeClaims, and this release brings no provisioner: install Azure's gpu-provisioner, or set
provisioner.enabled=true.
{{- end }}
{{- if and (eq .Values.nodes "karpenter") (not .Values.cloud) (not .Values.nodeClass) }}

Claims refer to Azure's node class. On another cloud set cloud or nodeClass.
{{- end }}

  kubectl -n {{ .Release.Namespace }} rollout status deployment/kaito-operator
  kubectl apply -f workspace.yaml
  kubectl get workspaces
"""

IGNORED = ".git\n*.tgz\n*.swp\n"


def chart_files() -> dict[str, str]:
    """Every file of the chart, by its path within it."""
    printer = Printer(default_values())
    by_file: dict[str, list[Document]] = defaultdict(list)
    for document in documents():
        by_file[document.file].append(document)
    partials = "\n".join(printer.partial(name, body) for name, body in PARTIALS.items())
    return {
        "Chart.yaml": CHART.format(version=kaito.__version__),
        ".helmignore": IGNORED,
        "values.yaml": values_yaml(),
        "values.schema.json": json.dumps(values_schema(), indent=2) + "\n",
        "templates/NOTES.txt": NOTES,
        "templates/_helpers.tpl": NOTICE + HELPERS + partials,
        **{f"templates/{file}": NOTICE + printer.documents(found) for file, found in sorted(by_file.items())},
    }
