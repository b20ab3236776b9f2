"""What is in cluster/ holds to the schemas of those who read it; none of it is run here but `coldray cluster`."""

import json
import re
import subprocess
from pathlib import Path

import jsonschema
import pytest
import ray.autoscaler
import yaml

from coldray.graph.settings import BuildSettings
from coldray.settings import load_yaml
from coldray.sweep.config import SweepSettings

CLUSTER = Path(__file__).parent.parent / "cluster"
LAUNCHED = sorted(CLUSTER.glob("*.yaml"))
MANIFESTS = sorted(
    path for path in CLUSTER.glob("kubernetes/*/*.yaml") if path.stem not in ("sweep", "graph")
)

TEXT, NUMBER, FLAG, LABELS = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}, {"type": "object"}
LABELS = LABELS | {"additionalProperties": TEXT}


def only(required: str = "", **properties):
    """Return the schema of an object with these fields and no others."""
    known = {name.rstrip("_"): schema for name, schema in properties.items()}
    return {
        "type": "object",
        "properties": known,
        "required": required.split(),
        "additionalProperties": False,
    }


def some(items):
    """Return the schema of a list that is not empty."""
    return {"type": "array", "items": items, "minItems": 1}


REFERENCE = only("name key", name=TEXT, key=TEXT)
VARIABLE = only(
    "name", name=TEXT, value=TEXT, valueFrom=only(secretKeyRef=REFERENCE, configMapKeyRef=REFERENCE)
)
RESOURCES = only("requests", requests=LABELS, limits=LABELS)
PROBE = only(
    httpGet=only("path port", path=TEXT, port=NUMBER),
    exec=only("command", command=some(TEXT)),
    periodSeconds=NUMBER,
)
CONTAINER = only(
    "name image resources securityContext",
    name=TEXT,
    image=TEXT,
    command=some(TEXT),
    args=some(TEXT),
    env=some(VARIABLE),
    ports=some(only("containerPort", containerPort=NUMBER, name=TEXT)),
    readinessProbe=PROBE,
    securityContext=only(
        "allowPrivilegeEscalation capabilities",
        allowPrivilegeEscalation={"const": False},
        capabilities=only("drop", drop={"const": ["ALL"]}),
    ),
    resources=RESOURCES,
    volumeMounts=some(only("name mountPath", name=TEXT, mountPath=TEXT, readOnly=FLAG)),
)
VOLUME = only(
    "name",
    name=TEXT,
    secret=only("secretName", secretName=TEXT, items=some(only("key path", key=TEXT, path=TEXT))),
    configMap=only("name", name=TEXT),
    persistentVolumeClaim=only("claimName", claimName=TEXT),
)
POD = only(
    "containers securityContext automountServiceAccountToken",
    automountServiceAccountToken=FLAG,
    nodeSelector=LABELS,
    tolerations=some(only("key operator", key=TEXT, operator={"enum": ["Exists", "Equal"]}, effect=TEXT)),
    securityContext=only(
        "runAsNonRoot seccompProfile",
        runAsUser=NUMBER,
        runAsNonRoot={"const": True},
        fsGroup=NUMBER,
        seccompProfile=only("type", type={"const": "RuntimeDefault"}),
    ),
    containers=some(CONTAINER),
    volumes=some(VOLUME),
)
TEMPLATE = only("spec", metadata=only(labels=LABELS), spec=POD)
SELECTOR = only(
    matchLabels=LABELS,
    matchExpressions=some(
        only("key operator", key=TEXT, operator={"enum": ["Exists", "In"]}, values=some(TEXT))
    ),
)
# KubeRay 1.5.1 and later, ray.io/v1
RAY = only(
    "rayVersion authOptions headGroupSpec workerGroupSpecs",
    rayVersion={"type": "string", "pattern": r"^\d+\.\d+\.\d+$"},
    authOptions=only("mode", mode={"const": "token"}),
    enableInTreeAutoscaling=FLAG,
    autoscalerOptions=only(version={"enum": ["v1", "v2"]}, idleTimeoutSeconds=NUMBER),
    headGroupSpec=only("rayStartParams template", rayStartParams=LABELS, template=TEMPLATE),
    workerGroupSpecs=some(
        only(
            "groupName replicas minReplicas maxReplicas rayStartParams template",
            groupName=TEXT,
            replicas=NUMBER,
            minReplicas=NUMBER,
            maxReplicas=NUMBER,
            rayStartParams=LABELS,
            template=TEMPLATE,
        )
    ),
)
UPGRADE = only(
    "type",
    type={"enum": ["NewCluster", "NewClusterWithIncrementalUpgrade", "None"]},
    clusterUpgradeOptions=only(
        "gatewayClassName",
        maxSurgePercent=NUMBER,
        stepSizePercent=NUMBER,
        intervalSeconds=NUMBER,
        gatewayClassName=TEXT,
    ),
)
RULE = only(
    from_=some(only(podSelector=SELECTOR, namespaceSelector=SELECTOR)), ports=some(only("port", port=NUMBER))
)
CLAIM = only("accessModes resources", accessModes=some(TEXT), resources=RESOURCES)
FLAVOR = only(
    "name resources", name=TEXT, resources=some(only("name nominalQuota", name=TEXT, nominalQuota={}))
)
SPECS = {
    "Service": only("selector ports", clusterIP=TEXT, selector=LABELS, ports=some(only("port", port=NUMBER))),
    "Deployment": only("replicas selector template", replicas=NUMBER, selector=SELECTOR, template=TEMPLATE),
    "StatefulSet": only(
        "serviceName replicas selector template volumeClaimTemplates",
        serviceName=TEXT,
        replicas=NUMBER,
        selector=SELECTOR,
        template=TEMPLATE,
        volumeClaimTemplates=some(only("metadata spec", metadata=only("name", name=TEXT), spec=CLAIM)),
    ),
    "NetworkPolicy": only(
        "podSelector policyTypes",
        podSelector=SELECTOR,
        policyTypes=some({"enum": ["Ingress", "Egress"]}),
        ingress=some(RULE),
    ),
    "RayCluster": RAY,
    "RayJob": only(
        "entrypoint rayClusterSpec",
        entrypoint=TEXT,
        backoffLimit=NUMBER,
        shutdownAfterJobFinishes=FLAG,
        ttlSecondsAfterFinished=NUMBER,
        suspend=FLAG,
        rayClusterSpec=RAY,
    ),
    "RayService": only(
        "serveConfigV2 rayClusterConfig", upgradeStrategy=UPGRADE, serveConfigV2=TEXT, rayClusterConfig=RAY
    ),
    "ResourceFlavor": only(),
    "ClusterQueue": only(
        "resourceGroups",
        namespaceSelector=SELECTOR,
        resourceGroups=some(
            only("coveredResources flavors", coveredResources=some(TEXT), flavors=some(FLAVOR))
        ),
    ),
    "LocalQueue": only("clusterQueue", clusterQueue=TEXT),
}
VERSIONS = {
    "Service": "v1",
    "Deployment": "apps/v1",
    "StatefulSet": "apps/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    **dict.fromkeys(("RayCluster", "RayJob", "RayService"), "ray.io/v1"),
    **dict.fromkeys(("ResourceFlavor", "ClusterQueue", "LocalQueue"), "kueue.x-k8s.io/v1beta1"),
}
KUSTOMIZATION = only(
    "apiVersion kind resources",
    apiVersion=TEXT,
    kind={"enum": ["Kustomization", "Component"]},
    namespace=TEXT,
    resources=some(TEXT),
    configMapGenerator=some(only("name", name=TEXT, literals=some(TEXT), files=some(TEXT))),
    generatorOptions=only(disableNameSuffixHash=FLAG),
    images=some(only("name newName newTag", name=TEXT, newName=TEXT, newTag=TEXT)),
    patches=some(only("target patch", target=only("kind", kind=TEXT), patch=TEXT)),
)


def documents(path):
    return [(path, found) for found in yaml.safe_load_all(path.read_text())]


OBJECTS = [found for path in MANIFESTS if path.stem != "kustomization" for found in documents(path)]


def pods(found):
    """Yield the specifications of all pods in an object."""
    if isinstance(found, dict):
        if "containers" in found:
            yield found
        for value in found.values():
            yield from pods(value)
    elif isinstance(found, list):
        for value in found:
            yield from pods(value)


@pytest.mark.parametrize("path", LAUNCHED, ids=lambda path: path.stem)
def test_the_launcher_takes_our_files(path):
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    settings = yaml.safe_load(path.read_text())
    settings = {name: value for name, value in settings.items() if name != "min_workers"}
    jsonschema.validate(settings, schema)
    head, worker = settings["head_start_ray_commands"], settings["worker_start_ray_commands"]
    for command in [*settings["setup_commands"], *head, *worker]:
        subprocess.run(["bash", "-n", "-c", command], check=True)
        assert "ray start" not in command or "RAY_AUTH_MODE=token ray start" in command
    assert sum("ray start" in command for command in [*head, *worker]) == 2
    assert any("cluster up --no-ray" in command for command in head)
    assert any("MLFLOW_TRACKING_URI=" in command for command in worker)
    assert any("make install" in command for command in settings["setup_commands"])
    assert {"data", "runs", "**/tokens.yaml"} <= set(settings["rsync_exclude"])


@pytest.mark.parametrize(
    "found", [found for _, found in OBJECTS], ids=lambda found: f"{found['kind']}-{found['metadata']['name']}"
)
def test_manifests_have_the_fields_of_their_kinds_and_no_others(found):
    assert found["apiVersion"] == VERSIONS[found["kind"]]
    jsonschema.validate(found["spec"], SPECS[found["kind"]])
    assert re.fullmatch(r"[a-z][a-z0-9-]{0,50}", found["metadata"]["name"])
    for pod in pods(found["spec"]):
        volumes = {volume["name"] for volume in pod.get("volumes", [])}
        claimed = {claim["metadata"]["name"] for claim in found["spec"].get("volumeClaimTemplates", [])}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container.get("volumeMounts", [])} <= volumes | claimed
            secrets = [v for v in container.get("env", []) if re.search("TOKEN$|PASSWORD", v["name"])]
            assert all("secretKeyRef" in variable["valueFrom"] for variable in secrets)


def test_ray_is_the_version_that_is_locked():
    lock = (CLUSTER.parent / "requirements" / "linux-x86_64-llm-cuda.txt").read_text()
    (version,) = re.findall(r"^ray==(\S+)", lock, re.M)
    said = {match for path in MANIFESTS for match in re.findall(r"rayVersion: (\S+)", path.read_text())}
    assert said == {version}


@pytest.mark.parametrize(
    "path", sorted(CLUSTER.glob("kubernetes/*/kustomization.yaml")), ids=lambda path: path.parent.name
)
def test_overlays_name_what_is_there(path):
    settings = yaml.safe_load(path.read_text())
    jsonschema.validate(settings, KUSTOMIZATION)
    named = settings["resources"] + [
        name for made in settings.get("configMapGenerator", []) for name in made.get("files", [])
    ]
    assert all((path.parent / name).is_file() for name in named)
    left = {other.name for other in path.parent.iterdir()} - set(named) - {"kustomization.yaml"}
    assert not left


def test_settings_of_ours_in_manifests_are_valid():
    load_yaml(str(CLUSTER / "kubernetes" / "sweep" / "sweep.yaml"), SweepSettings)
    load_yaml(str(CLUSTER / "kubernetes" / "graph" / "graph.yaml"), BuildSettings)


def test_the_image_is_built_from_the_locks():
    text = (CLUSTER / "Dockerfile").read_text()
    for lock in re.findall(r"LOCK=(\S+)", text):
        assert (CLUSTER.parent / "requirements" / f"{lock}.txt").is_file()
    for copied in re.findall(r"^COPY --chown=coldray (.+) \S+$", text, re.M):
        assert all((CLUSTER.parent / name).exists() for name in copied.split())
    assert text.index("USER coldray") < text.index("RUN scripts/install")
