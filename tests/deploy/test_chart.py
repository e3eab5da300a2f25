"""deploy/helm/cgk-tasks, rendered by Helm's own engine."""

import shutil
import subprocess

import pytest

from tests.deploy.files import CHART, GROUP, ChartError, is_command, render

MONITORING = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
EVERYTHING = {
    "secret": {"hasDirectDatabaseUrl": True, "keys": {"CGK_SMTP_URL": "smtp-url"}},
    "workers": {
        "default": {"queues": ["cgk"]},
        "emails": {
            "queues": ["emails", "sms+x"], "autoscaling": {"enabled": True}, "extraArgs": ["--pool=threads"],
            "longestJobSeconds": 600, "terminationGracePeriodSeconds": 660, "nodeSelector": {"pool": "jobs"},
            "tolerations": [{"key": "jobs", "operator": "Exists"}],
        },
    },
    "dashboard": {
        "urlPrefix": "/ops/", "trustedProxies": "10.0.0.0/8",
        "ingress": {"enabled": True, "className": "nginx", "host": "jobs.example.com", "tlsSecret": "tls"},
    },
    "gateway": {
        "enabled": True, "ingress": {"enabled": True, "host": "api.example.com", "tlsSecret": "tls"},
    },
    "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "networkPolicy": {
        "metricsFrom": MONITORING, "dashboardFrom": MONITORING, "gatewayFrom": MONITORING,
        "workerEgress": [{"ports": [{"port": 443, "protocol": "TCP"}]}],
    },
    "storage": {"existingClaim": "files"},
    "image": {"pullSecrets": ["registry"]},
    "env": [{"name": "SHOP_KEY", "valueFrom": {"secretKeyRef": {"name": "shop", "key": "key"}}}],
    "podAnnotations": {"example.com/team": "jobs"},
    "podLabels": {"team": "jobs"},
    "serviceAccountName": "jobs",
}  # fmt: skip
OPERATORS = {"keda.sh", "monitoring.coreos.com"}
"""Whose schemas are not Kubernetes' own."""


@pytest.fixture(scope="module", params=[{}, EVERYTHING], ids=["least", "everything"])
def objects(request):
    return render(request.param)


@pytest.fixture(scope="module")
def everything():
    return render(EVERYTHING)


def pods(objects) -> dict:
    return {
        one["metadata"]["name"]: one["spec"] if one["kind"] == "Pod" else one["spec"]["template"]["spec"]
        for one in objects
        if one["kind"] in {"Deployment", "Job", "Pod"}
    }


def environment(pod) -> dict:
    return {one["name"]: one.get("value") for one in pod["containers"][0]["env"]}


def named(objects, kind: str, name: str) -> dict:
    return next(one for one in objects if (one["kind"], one["metadata"]["name"]) == (kind, name))


def selects(selector: dict, labels: dict) -> bool:
    equal = selector.get("matchLabels", {}).items() <= labels.items()
    return equal and all(labels.get(one["key"]) in one["values"] for one in selector.get("matchExpressions", []))


def test_helm_finds_nothing_wrong():
    if program := shutil.which("helm"):
        done = subprocess.run([program, "lint", "--strict", str(CHART)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
        return
    found = pytest.importorskip("helm_python", reason=GROUP).lint(str(CHART))
    assert found["errors"] in (None, [])


@pytest.mark.parametrize("version", ["1.27", "1.30", "1.34"])
def test_what_is_rendered_is_what_kubernetes_takes(objects, version):
    schemas = pytest.importorskip("kubernetes_validate", reason=GROUP)
    for one in objects:
        if one["apiVersion"].partition("/")[0] not in OPERATORS:
            schemas.validate(one, version, strict=True)


def test_names_are_unique_and_short_enough_also_for_a_long_worker(objects):
    names = [(one["kind"], one["metadata"]["name"]) for one in objects]
    assert len(names) == len(set(names))
    longest = render({"workers": {"a" * 20: {"queues": ["a"]}}})
    assert max(len(one["metadata"]["name"]) for one in longest) <= 35 + len("-worker-") + 20 <= 63


def test_every_process_runs_a_command_that_there_is(objects):
    for name, pod in pods(objects).items():
        assert is_command([word.partition("=")[0] for word in pod["containers"][0]["args"]]), name


def test_no_process_is_root_writes_to_its_image_or_has_a_privilege(objects):
    for pod in pods(objects).values():
        container = pod["containers"][0]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip
        assert pod["automountServiceAccountToken"] is False
        assert container["resources"]["requests"]
        assert container["resources"]["limits"]["memory"]


def test_secrets_are_files_and_no_value(objects):
    for pod in pods(objects).values():
        values = environment(pod)
        for name in ("CGK_DATABASE_URL", "CGK_BROKER_URL", "CGK_ENCRYPTION_KEYS"):
            assert values[f"{name}_FILE"].startswith("/run/secrets/cgk/")
            assert name not in values


def test_beat_and_migrations_go_past_pgbouncer_where_there_is_a_url_for_it(everything):
    ways = {
        name: environment(pod)["CGK_DATABASE_URL_FILE"].rpartition("/")[2] for name, pod in pods(everything).items()
    }
    direct = {name for name, way in ways.items() if way == "direct-database-url"}
    assert direct == {"shop-beat", "shop-migrate"}
    assert set(ways.values()) == {"direct-database-url", "database-url"}


def test_a_worker_has_a_deployment_for_its_queues_with_the_defaults_that_it_does_not_name(everything):
    emails, default = named(everything, "Deployment", "shop-worker-emails"), named(
        everything, "Deployment", "shop-worker-default"
    )  # fmt: skip
    assert "--queues=emails,sms+x" in emails["spec"]["template"]["spec"]["containers"][0]["args"]
    assert "replicas" not in emails["spec"]  # KEDA's
    assert default["spec"]["replicas"] == 2


def test_a_worker_has_five_seconds_more_than_its_jobs(everything):
    for name, grace in {"shop-worker-default": 60, "shop-worker-emails": 660}.items():
        pod = pods(everything)[name]
        assert pod["terminationGracePeriodSeconds"] == grace
        assert environment(pod)["CGK_STOP_GRACE_SECONDS"] == str(grace - 5)


def test_a_rollout_and_a_drained_node_leave_workers_and_a_beat(everything):
    for name in ("shop-worker-default", "shop-worker-emails", "shop-beat"):
        deployment = named(everything, "Deployment", name)
        assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
        assert named(everything, "PodDisruptionBudget", name)["spec"]["maxUnavailable"] == 1


def test_what_has_a_port_is_probed_there_and_the_dashboard_below_its_prefix(everything):
    for name, pod in pods(everything).items():
        container = pod["containers"][0]
        assert ("livenessProbe" in container) == ("ports" in container), name
    dashboard = pods(everything)["shop-dashboard"]["containers"][0]
    assert dashboard["livenessProbe"]["httpGet"]["path"] == "/ops/healthcheck"


def test_a_gateway_takes_requests_only_while_it_reaches_the_database(everything):
    container = pods(everything)["shop-gateway"]["containers"][0]
    probes = {
        name: container[name]["httpGet"]["path"].rpartition("/")[2] for name in ("livenessProbe", "readinessProbe")
    }
    assert probes == {"livenessProbe": "live", "readinessProbe": "ready"}


def test_without_a_word_there_is_no_gateway():
    assert "shop-gateway" not in pods(render({}))


def test_migrations_run_before_anything_of_a_new_version(objects):
    job = named(objects, "Job", "shop-migrate")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never"


def test_helm_test_asks_the_doctor(objects):
    pod = named(objects, "Pod", "shop-doctor")
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    assert pod["spec"]["containers"][0]["args"] == ["cgk-tasks", "doctor"]


def test_workers_are_added_by_the_age_of_what_could_run(everything):
    scaled = named(everything, "ScaledObject", "shop-worker-emails")["spec"]
    assert scaled["scaleTargetRef"]["name"] == "shop-worker-emails"
    trigger = scaled["triggers"][0]
    assert trigger["metadata"]["query"] == (
        r'max(cgk_waiting_oldest_seconds{gate="none",queue=~"emails|sms\\+x"}) or vector(0)'
    )
    assert (trigger["metricType"], trigger["metadata"]["threshold"]) == ("Value", "30")


def test_every_selector_finds_exactly_its_pods(everything):
    labels = {
        one["metadata"]["name"]: one["spec"]["template"]["metadata"]["labels"]
        for one in everything
        if one["kind"] in {"Deployment", "Job"}
    }
    for one in everything:
        if one["kind"] in {"Deployment", "PodDisruptionBudget"}:
            assert [name for name, its in labels.items() if selects(one["spec"]["selector"], its)] == [
                one["metadata"]["name"]
            ]
        elif one["kind"] == "Service":
            found = [name for name, its in labels.items() if one["spec"]["selector"].items() <= its.items()]
            assert found == [one["metadata"]["name"]]


def test_every_pod_has_a_policy_for_both_ways_and_only_workers_reach_more_than_our_servers(everything):
    policies = [one["spec"] for one in everything if one["kind"] == "NetworkPolicy"]
    for one in everything:
        if one["kind"] in {"Deployment", "Job", "Pod"}:
            labels = one.get("spec", {}).get("template", one)["metadata"]["labels"]
            mine = [spec for spec in policies if selects(spec["podSelector"], labels)]
            ways = {way for spec in mine for way in spec["policyTypes"]}
            ports = {port["port"] for spec in mine for rule in spec.get("egress", []) for port in rule["ports"]}
            assert ways == {"Ingress", "Egress"}
            assert ports - {443} == {53, 5432, 6432, 6379, 5671, 5672}
            assert (443 in ports) == ("worker" in one["metadata"]["name"])


def test_without_rules_of_their_own_workers_reach_everything_and_nobody_reaches_a_pod():
    policies = [one["spec"] for one in render({}) if one["kind"] == "NetworkPolicy"]
    assert [spec for spec in policies if spec.get("ingress")] == []
    worker = next(spec for spec in policies if "worker" in str(spec["podSelector"]))
    assert worker["egress"] == [{}]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"beat": {"replicas": 1}}, r"beat\.replicas is 1: with fewer than two beats, schedules stop"),
        (
            {"workerDefaults": {"longestJobSeconds": 300}},
            r"workers\.default: terminationGracePeriodSeconds is 60, but its longest .* 300 s .* to 305 or more",
        ),
        (
            {"workers": {"slow": {"queues": ["slow"], "longestJobSeconds": 56}}},
            r"workers\.slow: terminationGracePeriodSeconds is 60, but its longest job may run for 56 s",
        ),
        ({"workers": {"default": {"replicas": 0}}}, r"workers\.default may have no replica"),
        (
            {"workers": {"default": {"autoscaling": {"enabled": True, "minReplicas": 0}}}},
            r"workers\.default may have no replica",
        ),
        ({"workers": {"more": {}}}, r"workers\.more has no queues"),
        (
            {"workers": {"default": {"autoscaling": {"enabled": True}}}, "exporter": {"enabled": False}},
            r"autoscaling asks Prometheus for what the exporter tells",
        ),
        ({"settings": {"CGK_DATABASE_URL": "x"}}, r"settings\.CGK_DATABASE_URL is a secret"),
        ({"settings": {"CGK_SMTP_URL": "x"}}, r"settings\.CGK_SMTP_URL is a secret"),
        ({"settings": {"CGK_STOP_GRACE_SECONDS": 9}}, r"follows from terminationGracePeriodSeconds"),
        ({"secret": {"name": ""}}, r"secret\.name is empty"),
        ({"image": {"tag": ""}}, r"image\.tag is empty"),
        ({"podMonitor": {"enabled": True}}, r"name Prometheus in networkPolicy\.metricsFrom"),
        (
            {"dashboard": {"ingress": {"enabled": True, "host": "a.example.com", "tlsSecret": "tls"}}},
            r"name the ingress controller in networkPolicy\.dashboardFrom",
        ),
        (
            {"gateway": {"enabled": True, "ingress": {"enabled": True, "host": "a.example.com", "tlsSecret": "tls"}}},
            r"name the ingress controller in networkPolicy\.gatewayFrom",
        ),
    ],
)
def test_what_would_lose_runs_or_work_badly_is_not_rendered_and_the_chart_says_why(values, sentence):
    with pytest.raises(ChartError, match=f"(?s){sentence}"):
        render(values)


@pytest.mark.parametrize(
    "values",
    [
        {"workerDefaults": {"concurency": 3}}, {"beats": {}}, {"image": {"tag": 1.1}}, {"settings": {"JOBS": "x"}},
        {"workers": {"Emails": {"queues": ["a"]}}}, {"workers": {"default": {"queues": ["a,b"]}}},
    ],
    ids=str,
)  # fmt: skip
def test_a_misspelt_value_or_one_of_the_wrong_kind_is_refused_by_the_schema(values):
    with pytest.raises(ChartError, match=r"at '.*': "):
        render(values)


def test_the_grace_may_be_exactly_five_seconds_longer():
    render({"workerDefaults": {"longestJobSeconds": 55, "terminationGracePeriodSeconds": 60}})


def test_a_deployment_without_schedules_may_leave_beat_out():
    assert [
        one for one in render({"beat": {"enabled": False, "replicas": 0}}) if "beat" in one["metadata"]["name"]
    ] == []
