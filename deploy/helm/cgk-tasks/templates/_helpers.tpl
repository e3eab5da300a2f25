{{- define "cgk.name" -}}
{{- .Release.Name | trunc 35 | trimSuffix "-" -}}
{{- end -}}

{{/* Labels of a component: (dict "root" $ "component" "beat") */}}
{{- define "cgk.selector" -}}
app.kubernetes.io/name: cgk-tasks
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "cgk.labels" -}}
{{ include "cgk.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end -}}

{{- define "cgk.image" -}}
{{- $image := .Values.image -}}
{{ required "image.repository is empty: name your application's image." $image.repository }}:{{ required "image.tag is empty: name the version of your jobs." $image.tag }}
{{- end -}}

{{/* A worker's values: its own over workerDefaults. (dict "root" $ "name" "emails" "worker" {...}) */}}
{{- define "cgk.worker" -}}
{{- $worker := mergeOverwrite (deepCopy .root.Values.workerDefaults) (deepCopy (.worker | default dict)) -}}
{{- $where := printf "workers.%s" .name -}}
{{- if not $worker.queues -}}
{{- fail (printf "%s has no queues: name at least one." $where) -}}
{{- end -}}
{{- $grace := int $worker.terminationGracePeriodSeconds -}}
{{- $longest := int $worker.longestJobSeconds -}}
{{- if lt $grace (add $longest 5 | int) -}}
{{- fail (printf "%s: terminationGracePeriodSeconds is %d, but its longest job may run for %d s and a worker needs 5 s more to give back the rest. Set it to %d or more, or let the job call ctx.checkpoint and set longestJobSeconds to the time between two of them." $where $grace $longest (add $longest 5)) -}}
{{- end -}}
{{- $least := ternary $worker.autoscaling.minReplicas $worker.replicas $worker.autoscaling.enabled | int -}}
{{- if lt $least 1 -}}
{{- fail (printf "%s may have no replica: a worker has to live, for workers dispatch what is due. Leave one, or remove the entry." $where) -}}
{{- end -}}
{{- if and $worker.autoscaling.enabled (not .root.Values.exporter.enabled) -}}
{{- fail (printf "%s: autoscaling asks Prometheus for what the exporter tells. Enable the exporter." $where) -}}
{{- end -}}
{{- toYaml $worker -}}
{{- end -}}

{{/* What every container of ours has: (dict "root" $ "direct" false) */}}
{{- define "cgk.container" -}}
{{- $root := .root -}}
image: {{ include "cgk.image" $root | quote }}
imagePullPolicy: {{ $root.Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
  - {name: secrets, mountPath: /run/secrets/cgk, readOnly: true}
{{- if and .storage $root.Values.storage.existingClaim }}
  - {name: storage, mountPath: /var/lib/cgk-tasks}
{{- end }}
{{- end -}}

{{/* The settings whose values are secrets; tests/deploy compares them with the code. */}}
{{- define "cgk.secretSettings" -}}
["CGK_ALERT_URLS", "CGK_BROKER_URL", "CGK_BROWSER_TOKEN_KEYS", "CGK_CACHE_URL", "CGK_CRON_SECRET", "CGK_DATABASE_URL", "CGK_ENCRYPTION_KEYS", "CGK_INNGEST_EVENT_KEY", "CGK_INNGEST_SIGNING_KEY", "CGK_PUSH_URL", "CGK_QSTASH_CURRENT_SIGNING_KEY", "CGK_QSTASH_NEXT_SIGNING_KEY", "CGK_SIGNAL_URL_KEYS", "CGK_SLACK_URL", "CGK_SMS_URL", "CGK_SMTP_URL", "CGK_TRIGGER_SECRET_KEY", "CRON_SECRET", "INNGEST_EVENT_KEY", "INNGEST_SIGNING_KEY", "QSTASH_CURRENT_SIGNING_KEY", "QSTASH_NEXT_SIGNING_KEY", "TRIGGER_DEV_SECRET_KEY", "TRIGGER_SECRET_KEY"]
{{- end -}}

{{- define "cgk.env" -}}
{{- $root := .root -}}
{{- range $name, $key := $root.Values.secret.keys }}
{{- if and $.direct $root.Values.secret.hasDirectDatabaseUrl (eq $name "CGK_DATABASE_URL") }}
{{- $key = "direct-database-url" }}
{{- end }}
{{- if $key }}
- {name: {{ $name }}_FILE, value: /run/secrets/cgk/{{ $key }}}
{{- end }}
{{- end }}
{{- range $name, $value := $root.Values.settings }}
{{- if has $name (include "cgk.secretSettings" $root | fromJsonArray) }}
{{- fail (printf "settings.%s is a secret, and values of a chart are none: put it into the Secret %s, and the key that it has there into secret.keys.%s." $name ($root.Values.secret.name | default "that secret.name names") $name) }}
{{- end }}
{{- if eq $name "CGK_STOP_GRACE_SECONDS" }}
{{- fail "settings.CGK_STOP_GRACE_SECONDS follows from terminationGracePeriodSeconds: set that." }}
{{- end }}
{{- if $value }}
- {name: {{ $name }}, value: {{ $value | toString | quote }}}
{{- end }}
{{- end }}
{{- with $root.Values.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* What every pod of ours has, below `spec`. */}}
{{- define "cgk.pod" -}}
{{- $root := .root -}}
automountServiceAccountToken: false
enableServiceLinks: false  # they would be variables that no process of ours has asked for
{{- with $root.Values.serviceAccountName }}
serviceAccountName: {{ . }}
{{- end }}
securityContext:
  {{- toYaml $root.Values.podSecurityContext | nindent 2 }}
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
volumes:
  - {name: tmp, emptyDir: {}}
  - name: secrets
    secret:
      secretName: {{ required "secret.name is empty: name the Secret with database-url, broker-url and encryption-keys." $root.Values.secret.name }}
      defaultMode: 0440
{{- if and .storage $root.Values.storage.existingClaim }}
  - name: storage
    persistentVolumeClaim: {claimName: {{ $root.Values.storage.existingClaim }}}
{{- end }}
{{- end -}}

{{- define "cgk.spread" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "cgk.selector" . | nindent 8 }}
{{- end -}}

{{- define "cgk.podMetadata" -}}
labels:
  {{- include "cgk.labels" . | nindent 2 }}
  {{- with .root.Values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- $annotations := deepCopy .root.Values.podAnnotations }}
{{- with .hook }}
{{- $annotations = merge (dict "helm.sh/hook" . "helm.sh/hook-delete-policy" "before-hook-creation,hook-succeeded") $annotations }}
{{- end }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Names, PostgreSQL and the broker: what every process needs. */}}
{{- define "cgk.egressToServers" -}}
- ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
- ports:
    {{- range .Values.networkPolicy.serverPorts }}
    - {port: {{ int . }}, protocol: TCP}
    {{- end }}
{{- end -}}
