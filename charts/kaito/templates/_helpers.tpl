{{- /* Made by scripts/make_chart.py from src/kaito/install/objects; change it there. */ -}}
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

{{- define "kaito.labels" -}}
app.kubernetes.io/part-of: kaito
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
{{- end }}
