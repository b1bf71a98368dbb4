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

{{- define "polyfleet.activatorSelector" -}}
app.kubernetes.io/name: polyfleet
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: activator
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

{{- /* Names of cluster-scoped objects carry the namespace, so that two releases of one name do not take each other's. */ -}}
{{- define "polyfleet.clusterName" -}}
{{- if eq .Release.Name .Release.Namespace }}{{ .Release.Name }}{{ else }}{{ .Release.Namespace }}-{{ .Release.Name }}{{ end -}}
{{- end -}}

{{- /* Rights on what lies in namespaces: cluster-wide, or once per watched namespace. */ -}}
{{- define "polyfleet.namespacedRules" -}}
- apiGroups: [""]
  resources: [pods]
  verbs: [create, patch, delete]    # created: readers of config.json in a volume, whose shape nothing else tells
- apiGroups: [""]
  resources: [pods/status]
  verbs: [patch]
- apiGroups: [""]
  resources: [services]
  verbs: [list, watch, create, patch]
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, create, patch]    # golden sets are read; reference records and the numbers behind a verdict are written
- apiGroups: [apps]
  resources: [deployments]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [replicasets]
  verbs: [list, watch]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [list, watch, create, patch]
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [list, watch]    # one that scales a child of ours is told and not fought
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
- apiGroups: [polyfleet.io]
  resources: [modeldeployments]
  verbs: [list, watch]
- apiGroups: [polyfleet.io]
  resources: [accuracyreports]
  verbs: [list, watch, create, patch, delete]    # deleted: reports of fingerprints that nothing runs any more; overrides are people's
- apiGroups: [polyfleet.io]
  resources: [modeldeployments/status, accuracyreports/status]
  verbs: [patch]
{{- if .Values.activator.enabled }}
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [create, patch, delete]    # by which the activator stands in the way of a model at zero
{{- end }}
{{- end -}}
