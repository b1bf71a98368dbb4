{{- define "polyfleet.labels" -}}
app.kubernetes.io/name: polyfleet
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "polyfleet.selector" -}}
app.kubernetes.io/name: polyfleet
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "polyfleet.image" -}}
{{- $repo := .Values.image.repository -}}
{{- if .Values.global.imageRegistry }}{{ $repo = printf "%s/%s" (trimSuffix "/" .Values.global.imageRegistry) $repo }}{{ end -}}
{{- if .Values.image.digest -}}
{{ printf "%s@%s" $repo .Values.image.digest }}
{{- else -}}
{{ printf "%s:%s" $repo (.Values.image.tag | default .Chart.AppVersion) }}
{{- end -}}
{{- end -}}
