{{/* Names are cut so that what is made from them stays within 63 characters. */}}
{{- define "aof2.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "aof2.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- $name := include "aof2.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "aof2.selector" -}}
app.kubernetes.io/name: {{ include "aof2.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "aof2.labels" -}}
{{ include "aof2.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: operator
app.kubernetes.io/part-of: aof2
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/*
Of the operator's pod. Engines admit pods with aof2.dev/component, whatever the release is called; the Deployment selects by the other two.
Elsewhere podLabels win. A map, so that no key stands twice.
*/}}
{{- define "aof2.podLabels" -}}
{{- $own := dict "aof2.dev/component" "operator" -}}
{{- $fixed := merge $own (fromYaml (include "aof2.selector" .)) -}}
{{- mergeOverwrite (fromYaml (include "aof2.labels" .)) .Values.podLabels $fixed | toYaml }}
{{- end }}

{{- define "aof2.podAnnotations" -}}
{{- mergeOverwrite (dict "kubectl.kubernetes.io/default-container" "aof2-operator") .Values.podAnnotations | toYaml }}
{{- end }}

{{- define "aof2.caSecret" -}}
{{- default (printf "%s-ca" (include "aof2.fullname" .)) .Values.ca.secretName }}
{{- end }}

{{- define "aof2.watchNamespace" -}}
{{- default .Release.Namespace .Values.watch.namespace }}
{{- end }}

{{/*
What the operator does where clusters are; the same list as operator/src/rbac.rs, which a test compares.
Secrets can be created and replaced, and never read: a patch answers with the object, so it is not granted either.
*/}}
{{- define "aof2.clusterRules" -}}
- apiGroups: [aof2.dev]
  resources: [aof2clusters]
  verbs: [get, list, watch]
- apiGroups: [aof2.dev]
  resources: [aof2clusters/status]
  verbs: [update]
- apiGroups: [aof2.dev]
  resources: [aof2snapshots]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [aof2.dev]
  resources: [aof2snapshots/status]
  verbs: [update]
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [get, list, watch, create, patch]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, patch, delete]
- apiGroups: [""]
  resources: [pods/eviction]
  verbs: [create]
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [list, watch, patch]
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch]
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [get, list, watch, create, patch]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch]
- apiGroups: [""]
  resources: [secrets]
  verbs: [create, update]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [list, create, patch]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [get, create, update]
{{- end }}

{{/* What it does in its own namespace: its Lease, and the certificate authority. */}}
{{- define "aof2.ownRules" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [get, create, update]
- apiGroups: [""]
  resources: [secrets]
  verbs: [create]
{{- end }}
