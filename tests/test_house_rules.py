"""The house rules, as tests: what ARCHITECTURE.md and CONTRIBUTING.md say of the code, over all of it."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import coldray
from coldray.graph.settings import BuildSettings
from coldray.settings import load_yaml
from coldray.sweep.config import SweepSettings

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "coldray"
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50
MAX_PARAMETERS = 8

# Besides the packages of EDGE, only these modules, which are Ray Data pipelines, may import Ray.
RAY_DATA_MODULES = {"coldray.data.prepare", "coldray.encode.pipeline", "coldray.graph.pipeline"}
EDGE = {name: {"ray", "mlflow"} for name in ("sweep", "cluster", "cli")} | {
    "llm": {"ray"},
    "serving": {"ray"},
}
# Layers that do not know each other.
APART = {"llm", "graph", "retrieval", "zeroshot"}, {"models", "transfer", "training"}

PLATFORM_LOCKS = (
    "linux-x86_64",
    "linux-aarch64",
    "macos-arm64",
    "linux-x86_64-llm-cpu",
    "linux-x86_64-llm-cuda",
)


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def place(path: Path, node: ast.AST) -> str:
    return f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}"


def imports(path: Path) -> Iterator[tuple[ast.AST, str]]:
    """Yield every import of a module, wherever in it, as the full name of what is imported."""
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{place(path, node)}: import by full name"
            for alias in node.names:
                yield node, f"{node.module}.{alias.name}"


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return a function's lines, from `def` to its end, its docstring left out."""
    assert function.end_lineno is not None
    lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is not None:
        docstring = function.body[0]
        assert docstring.end_lineno is not None
        lines -= docstring.end_lineno - docstring.lineno + 1
    return lines


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    named += [extra for extra in (arguments.vararg, arguments.kwarg) if extra is not None]
    return len([argument for argument in named if argument.arg not in ("self", "cls")])


def layers() -> list[list[str]]:
    """Return the packages of each layer, lowest first, as the table of ARCHITECTURE.md lists them."""
    rows = re.findall(r"^\| \d+ \| ([^|]+) \|", (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"), re.M)
    return [re.findall(r"`(\w+)`", row) for row in rows]


def tracked_files() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    paths = [ROOT / name for name in listing.stdout.split("\0") if name]
    return [path for path in paths if path.is_file()]


def lock(name: str) -> dict[str, str]:
    """Return the versions of one lock file, and check that every line of it carries a hash."""
    versions = {}
    for line in (ROOT / "requirements" / f"{name}.txt").read_text().splitlines():
        if not line.startswith("#"):
            match = re.fullmatch(r"([a-z0-9-]+)==(\S+)(?: --hash=sha256:[0-9a-f]{64})+", line)
            assert match, f"{name}: {line[:80]}"
            versions[match[1]] = match[2]
    return versions


def test_files_are_short() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in TREES}
    assert [f"{path}: {length}" for path, length in lengths.items() if length > MAX_FILE_LINES] == []


def test_functions_are_short_and_take_few_parameters() -> None:
    faults = []
    for path in TREES:
        for function in functions(path):
            if body_lines(function) > MAX_FUNCTION_LINES:
                faults.append(f"{place(path, function)} {function.name}: {body_lines(function)} lines")
            if parameters(function) > MAX_PARAMETERS:
                faults.append(f"{place(path, function)} {function.name}: {parameters(function)} parameters")
    assert not faults, "\n".join(faults)


def test_every_package_has_a_layer() -> None:
    named = {name for layer in layers() for name in layer}
    there = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in TREES} - {
        "__init__",
        "__main__",
    }
    assert there == named


def test_imports_follow_the_layers() -> None:
    """A package imports from itself and from what stands before it in the table, never from after it."""
    order = [name for layer in layers() for name in layer]
    faults = []
    for path in TREES:
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for node, name in imports(path):
            if name.startswith("coldray.") and name.split(".")[1] in order and own in order:
                other = name.split(".")[1]
                if order.index(other) > order.index(own) or (own in APART[0] and other in APART[1]):
                    faults.append(f"{place(path, node)}: {own} imports {name}")
    assert not faults, "\n".join(faults)


def test_only_the_edge_imports_ray_and_mlflow() -> None:
    faults = []
    for path in TREES:
        allowed = {"ray"} if module_name(path) in RAY_DATA_MODULES else set()
        allowed = EDGE.get(path.relative_to(PACKAGE).parts[0], allowed)
        for node, name in imports(path):
            if name.split(".")[0] in {"ray", "mlflow"} - allowed:
                faults.append(f"{place(path, node)}: imports {name}")
    assert not faults, "\n".join(faults)


def test_nothing_outside_llm_imports_vllm() -> None:
    outside = [path for path in TREES if path.relative_to(PACKAGE).parts[0] != "llm"]
    faults = [
        place(path, node) for path in outside for node, name in imports(path) if name.split(".")[0] == "vllm"
    ]
    assert not faults, "\n".join(faults)


def test_every_module_has_its_test() -> None:
    modules = [path.relative_to(PACKAGE) for path in TREES if path.name not in ("__init__.py", "__main__.py")]
    mirrors = [ROOT / "tests" / module.parent / f"test_{module.name}" for module in modules]
    missing = [str(mirror.relative_to(ROOT)) for mirror in mirrors if not mirror.is_file()]
    assert not missing, "\n".join(missing)


def test_no_handler_catches_everything() -> None:
    faults = []
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ExceptHandler):
                caught = (
                    {name.id for name in ast.walk(node.type) if isinstance(name, ast.Name)}
                    if node.type
                    else {""}
                )
                if caught & {"", "Exception", "BaseException"}:
                    faults.append(place(path, node))
    assert not faults, "\n".join(faults)


def test_nothing_unpickles_or_evaluates_or_starts_a_shell() -> None:
    loads = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
    calls = {"eval", "exec", "torch.load", "yaml.load", "yaml.unsafe_load", "os.system", "os.popen"}
    faults = [
        f"{place(path, node)}: {name}"
        for path in TREES
        for node, name in imports(path)
        if name.split(".")[0] in loads
    ]
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                options = {option.arg for option in node.keywords if not _is_false(option.value)}
                if ast.unparse(node.func) in calls or options & {
                    "shell",
                    "allow_pickle",
                    "trust_remote_code",
                }:
                    faults.append(f"{place(path, node)}: {ast.unparse(node)}")
    assert not faults, "\n".join(faults)


def _is_false(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value is False


def test_no_global_state_and_no_environment_below_the_command_line() -> None:
    faults = []
    for path, tree in TREES.items():
        # What a Serve configuration deploys has no command line before it; a cluster's programs are started with an environment.
        folder = path.relative_to(PACKAGE).parts[0]
        below = folder not in ("cli", "cluster") and path != PACKAGE / "serving" / "app.py"
        for node in ast.walk(tree):
            reads = isinstance(node, ast.Call | ast.Subscript) and re.match(
                r"os\.(getenv\(|environ\.(get|setdefault|pop)\(|environ\[)", ast.unparse(node)
            )
            if isinstance(node, ast.Global) or (below and reads):
                faults.append(f"{place(path, node)}: {ast.unparse(node)}")
    assert not faults, "\n".join(faults)


IMPORT_ALL = """
import os, pkgutil, sys, threading
import coldray
before = set(threading.enumerate())
names = [found.name for found in pkgutil.walk_packages(coldray.__path__, "coldray.")]
for name in names:
    if not name.endswith("__main__") and name != "coldray.llm.vllm_engine":  # the one that is vLLM
        __import__(name)
assert len(names) > 10, names
assert os.listdir() == [], os.listdir()
assert set(threading.enumerate()) == before, threading.enumerate()
assert "vllm" not in sys.modules
import mlflow, ray
assert not ray.is_initialized()
assert mlflow.active_run() is None
assert not mlflow.is_tracking_uri_set()
assert os.listdir() == [], os.listdir()
"""


def test_importing_everything_does_nothing(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_no_tracked_file_names_a_package_registry() -> None:
    hosts = [
        ".".join(parts).encode()
        for parts in (("pypi", "org"), ("pythonhosted", "org"), ("registry", "npmjs"))
    ]
    files = {path: path.read_bytes() for path in tracked_files()}
    assert [f"{path}: {host!r}" for path, text in files.items() for host in hosts if host in text] == []


def test_every_experiment_is_one() -> None:
    files = sorted((ROOT / "tune_configs").iterdir())
    assert files
    for file in files:
        assert file.suffix == ".yaml", file
        load_yaml(file, SweepSettings)  # which refuses keys that it does not know


def test_every_graph_configuration_is_one() -> None:
    files = sorted((ROOT / "graph_configs").iterdir())
    assert files
    for file in files:
        assert file.suffix == ".yaml", file
        load_yaml(file, BuildSettings)


def test_locks_agree_with_one_another_and_with_the_pins() -> None:
    """Base and LLM locks share every version but those of CUDA's packages, and keep to the constraints."""
    text = (ROOT / "requirements" / "constraints.txt").read_text()
    pins = dict(re.findall(r"^([a-z0-9-]+)==(\S+)$", text, re.M))
    base = lock(PLATFORM_LOCKS[0])
    for name in PLATFORM_LOCKS:
        versions = lock(name)
        shared = {
            package
            for package in versions.keys() & base.keys()
            if not package.startswith(("nvidia-", "cuda-"))
        }
        assert {package: versions[package] for package in shared} == {
            package: base[package] for package in shared
        }
        for package in pins.keys() & versions.keys():
            assert re.fullmatch(pins[package].replace(".", r"\.").replace("*", ".*"), versions[package]), (
                package
            )


def test_one_version_of_ray_everywhere() -> None:
    """The images and manifests of a cluster name the Ray that the locks install."""
    expected = lock(PLATFORM_LOCKS[0])["ray"]
    faults = []
    for path in tracked_files():
        if path.suffix in (".yaml", ".yml", ".md", ".sh", ".toml") or path.name.startswith("Dockerfile"):
            found = re.findall(
                r"(?:rayproject/ray[a-z-]*:|ray\[?[a-z,]*\]?==|rayVersion: ?[\"']?)([0-9.]+[0-9])",
                path.read_text(),
            )
            faults += [f"{path}: Ray {version}, not {expected}" for version in found if version != expected]
    assert not faults, "\n".join(faults)


def test_the_changelog_knows_this_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[({re.escape(coldray.__version__)}|Unreleased)\]", changelog, re.M)
