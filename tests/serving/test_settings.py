from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from coldray.cli.serve import read_config
from coldray.llm.shared_engine import SharedSettings
from coldray.serving.settings import ServiceSettings

ROOT = Path(__file__).parent.parent.parent
FILES = sorted((ROOT / "serve").glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_file_is_a_configuration(file):
    schema = read_config(str(file))
    assert schema.http_options.host == "127.0.0.1"
    text = yaml.safe_load(file.read_text())
    assert [application["name"] for application in text["applications"]][-1] == "coldray"


def test_the_manifest_for_kubernetes_holds_the_same_configuration():
    manifest = yaml.safe_load((ROOT / "cluster" / "kubernetes" / "serving" / "rayservice.yaml").read_text())
    assert manifest["kind"] == "RayService"
    applications = yaml.safe_load(manifest["spec"]["serveConfigV2"])["applications"]
    SharedSettings.model_validate(applications[0]["args"])
    ServiceSettings.model_validate(applications[1]["args"])


@pytest.mark.parametrize(
    "change",
    [
        {"serves": {"engine": "coldrag"}},
        {"serves": {"engine": "other"}},
        {"limits": {"k": 0}},
        {"open": True},
        {"replicas": 0},
    ],
)
def test_what_makes_no_sense_is_refused(change):
    with pytest.raises(ValidationError):
        ServiceSettings.model_validate({"serves": {"engine": "coldrag", "graph": "g"}} | change)
