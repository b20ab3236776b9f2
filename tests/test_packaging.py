"""The package as a user gets it: what the wheel holds, and a command line that starts at once."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import coldray

ROOT = Path(__file__).parent.parent
COLDRAY = Path(sys.executable).with_name("coldray")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel of what is tracked, with the setuptools that is installed and no network."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file() and name.startswith(
            ("coldray/", "pyproject.toml", "README.md", "LICENSE")
        ):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--wheel-dir", str(out)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(source)], check=True)
    (built,) = out.glob("*.whl")
    return built


def test_the_wheel_holds_every_module_and_every_file_they_read(wheel: Path) -> None:
    assert wheel.name.startswith(f"coldray-{coldray.__version__}-py3-none-any")
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.startswith("coldray/")}
        licences = [name for name in archive.namelist() if name.endswith("licenses/LICENSE")]
    names = subprocess.run(
        ["git", "ls-files", "coldray"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert held == set(names.split())
    assert "coldray/py.typed" in held
    assert licences


def test_the_wheel_names_the_version_and_the_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        folder = f"coldray-{coldray.__version__}.dist-info"
        metadata = archive.read(f"{folder}/METADATA").decode()
        commands = archive.read(f"{folder}/entry_points.txt").decode()
    assert f"\nVersion: {coldray.__version__}\n" in metadata
    assert "\nLicense-Expression: Apache-2.0\n" in metadata
    assert "coldray = coldray.cli.main:main" in commands


def test_the_command_says_its_version() -> None:
    result = subprocess.run([COLDRAY, "--version"], capture_output=True, text=True, check=True)
    assert coldray.__version__ in result.stdout


@pytest.mark.parametrize(
    "arguments", [["--help"], ["data", "prepare", "--help"], ["encode", "--help"], ["doctor", "--help"]]
)
def test_help_waits_for_no_heavy_import(arguments: list[str]) -> None:
    code = "import sys\nfrom coldray.cli.main import main\ntry:\n    main()\nfinally:\n    print(*sys.modules, file=sys.stderr)"
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    assert "Usage:" in result.stdout
    heavy = {"torch", "ray", "mlflow", "transformers", "faiss", "pandas", "sklearn", "scipy", "matplotlib"}
    assert heavy & set(result.stderr.split()) == set()
