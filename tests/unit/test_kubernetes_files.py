"""What is in docker/k8s: valid for Kubernetes, in step with the code, confined, and without a secret."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped] # it has no types
import pytest
import yaml  # type: ignore[import-untyped] # PyYAML has no types

from embedq.contract import is_collection_name, queue_name, queue_parts
from embedq_worker.settings import Settings, WorkerSettings

FOLDER = Path(__file__).parents[2] / "docker/k8s"
KUBERNETES = "1.31"
"""The oldest release that is still in wide use."""
CUSTOM = {
    "Kustomization": "kustomize.config.k8s.io/v1beta1",
    "TriggerAuthentication": "keda.sh/v1alpha1",
    "ScaledObject": "keda.sh/v1alpha1",
    "PodMonitor": "monitoring.coreos.com/v1",
}
"""Kinds that Kubernetes has no schema of; what matters of them is looked at below."""

Manifest = dict[str, Any]


def manifests() -> list[Manifest]:
    """All of them, in the order of the files."""
    files = sorted(FOLDER.glob("*.yaml"))
    return [each for file in files for each in yaml.safe_load_all(file.read_text("utf-8"))]


def of(kind: str, name: str | None = None) -> Manifest:
    """The only one of its kind, or of its name."""
    found = [each for each in manifests() if each["kind"] == kind]
    (only,) = [each for each in found if name is None or each["metadata"]["name"] == name]
    return only


def pods() -> dict[str, Manifest]:
    """The specification of each pod."""
    templates = [each for each in manifests() if each["kind"] in ("Deployment", "Job")]
    return {each["metadata"]["name"]: each["spec"]["template"]["spec"] for each in templates}


@pytest.mark.parametrize(
    "manifest", [each for each in manifests() if each["kind"] not in CUSTOM], ids=lambda each: each["kind"]
)
def test_kubernetes_takes_them(manifest: Manifest) -> None:
    """By its own schemas, which know every field."""
    kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_the_validator_refuses_a_wrong_one() -> None:
    """It does see a field that is misspelt."""
    worker = of("Deployment", "embedq-worker")
    worker["spec"]["template"]["spec"]["terminationGracePeriod"] = 60
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(worker, KUBERNETES, strict=True)


def test_other_kinds_name_their_version() -> None:
    """Of the operators that they are for."""
    found = {each["kind"]: each["apiVersion"] for each in manifests() if each["kind"] in CUSTOM}
    assert found == CUSTOM


def test_kustomize_finds_every_file() -> None:
    """All but the example of secrets, which nobody should apply as it is."""
    named = set(of("Kustomization")["resources"])
    there = {file.name for file in FOLDER.glob("*.yaml")}
    assert named == there - {"kustomization.yaml", "secret.example.yaml"}


@pytest.mark.parametrize("name", pods())
def test_a_pod_is_confined(name: str) -> None:
    """Not root, no capability, no file to write, no token of the cluster, bounded memory."""
    pod = pods()[name]
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert pod["automountServiceAccountToken"] is False
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}


@pytest.mark.parametrize("name", pods())
def test_a_pod_runs_a_command_and_finds_what_it_mounts(name: str) -> None:
    """Its first argument is a command of embedq; its secrets are those of the example."""
    pod = pods()[name]
    (container,) = pod["containers"]
    assert container["args"][0] in entry_points(group="embedq.commands").names
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes.keys()
    for volume in volumes.values():
        if "secret" in volume:
            secret = of("Secret", volume["secret"]["secretName"])
            assert {item["key"] for item in volume["secret"]["items"]} <= secret["stringData"].keys()


def test_a_worker_drains_before_it_is_killed() -> None:
    """And is asked how it is at a port that it opens to the node."""
    pod = pods()["embedq-worker"]
    (container,) = pod["containers"]
    variables = {each["name"]: each["value"] for each in container["env"]}
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}

    assert pod["terminationGracePeriodSeconds"] > WorkerSettings().drain_time
    assert variables["EMBEDQ_METRICS_HOST"] == "0.0.0.0"
    assert int(variables["EMBEDQ_METRICS_PORT"]) == ports["metrics"]
    paths = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert paths == {
        "startup": {"path": "/livez", "port": "metrics"},
        "liveness": {"path": "/livez", "port": "metrics"},
        "readiness": {"path": "/readyz", "port": "metrics"},
    }


def test_the_settings_are_valid() -> None:
    """They are mounted where the workers look for them."""
    (generated,) = of("Kustomization")["configMapGenerator"]
    assert generated == {"name": "embedq-settings", "files": ["embedq.toml"]}
    settings = Settings.from_environment({"EMBEDQ_CONFIG": str(FOLDER / "embedq.toml")})
    assert settings.worker == WorkerSettings()


def test_selectors_select() -> None:
    """Services, budgets, policies and the monitor name labels that pods have."""
    labels = [
        each["spec"]["template"]["metadata"]["labels"]
        for each in manifests()
        if each["kind"] in ("Deployment", "Job")
    ]
    for manifest in manifests():
        spec = manifest.get("spec", {})
        selector = spec.get("selector") or spec.get("podSelector")
        if selector:
            wanted = selector.get("matchLabels", selector)
            assert any(wanted.items() <= each.items() for each in labels), manifest["metadata"]["name"]


def test_the_scaler_counts_queues() -> None:
    """Each trigger is a queue's list, and its user's secret is there; a query never waits for a pod."""
    scaled = of("ScaledObject")["spec"]
    authentication = of("TriggerAuthentication")

    assert scaled["scaleTargetRef"]["name"] in pods()
    assert scaled["minReplicaCount"] >= 1
    for trigger in scaled["triggers"]:
        collection, lane = queue_parts(trigger["metadata"]["listName"])
        assert is_collection_name(collection)
        assert trigger["metadata"]["listName"] == queue_name(collection, lane)
        assert int(trigger["metadata"]["listLength"]) > 0
        assert trigger["authenticationRef"]["name"] == authentication["metadata"]["name"]
    for reference in authentication["spec"]["secretTargetRef"]:
        assert reference["key"] in of("Secret", reference["name"])["stringData"]


def test_prometheus_asks_the_port_that_workers_open() -> None:
    """Under the job's name that the alerts look for."""
    spec = of("PodMonitor")["spec"]
    (endpoint,) = spec["podMetricsEndpoints"]
    (container,) = pods()["embedq-worker"]["containers"]
    labels = of("Deployment", "embedq-worker")["spec"]["template"]["metadata"]["labels"]

    assert endpoint["port"] in {port["name"] for port in container["ports"]}
    assert endpoint["path"] == "/metrics"
    assert labels[spec["jobLabel"]] == "embedq"
