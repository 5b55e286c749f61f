{{- define "sidelong.name" -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- define "sidelong.selector" -}}
app.kubernetes.io/name: sidelong
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "sidelong.labels" -}}
{{ include "sidelong.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "sidelong.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- define "sidelong.claim" -}}
{{- .Values.state.claim.existing | default (printf "%s-state" (include "sidelong.name" .)) -}}
{{- end }}

{{- define "sidelong.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "sidelong.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}

{{/* Peers and ports of one kind of target: takes one of networkPolicy, gives an entry of egress. */}}
{{- define "sidelong.egress" -}}
- ports:
    {{- range .ports }}
    - { protocol: TCP, port: {{ . }} }
    {{- end }}
  {{- with .to }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{/* What every pod of the service mounts. */}}
{{- define "sidelong.mounts" -}}
- { name: config, mountPath: /etc/sidelong/sidelong.toml, subPath: sidelong.toml, readOnly: true }
- { name: tmp, mountPath: /tmp }
{{- range .Values.secrets }}
- { name: secret-{{ .name }}, mountPath: /etc/sidelong/secrets/{{ .name }}, readOnly: true }
{{- end }}
{{- end }}

{{- define "sidelong.volumes" -}}
- name: config
  configMap: { name: {{ include "sidelong.name" . }} }
- name: tmp
  emptyDir: { sizeLimit: 256Mi }
{{- range .Values.secrets }}
- name: secret-{{ .name }}
  secret: { secretName: {{ .name }}, defaultMode: 0440 }
{{- end }}
{{- end }}

{{- define "sidelong.envFrom" -}}
{{- range .Values.secrets }}
{{- if get . "env" }}
- secretRef: { name: {{ .name }} }
{{- end }}
{{- end }}
{{- end }}
