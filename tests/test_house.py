# SPDX-License-Identifier: Apache-2.0
"""The house: imports point down, names are listed, documented and tested."""

import ast
import doctest
import inspect
import pathlib
import re
import subprocess
import sys
import tomllib
import types

import jax
import pytest

import jaxinit
import jaxinit.nnx
import jaxinit.plot
from tests.cases import CASES

QUICK = True  # see conftest.py

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = pathlib.Path(jaxinit.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# From the ground up: a folder or file imports from those before it, and nothing else.
FLOORS = [
    "compat",
    "stream",
    "core",
    "gains",
    "samplers",
    "families",
    "theory",
    "plot",
    "network",
    "compile",
    "trees",
    "rules",
    "nnx",
    "prediction",
    "signal",
    "designs",
    "cli",
    "__init__",
    "__main__",
]
GUESTS = {
    "cli/commands": {"rich"},
    "cli/demo": {"matplotlib", "rich"},
    "cli/digits": {"flax", "optax", "sklearn"},
    "nnx": {"flax"},
    "network/linen_pass": {"flax"},
    "network/nnx_pass": {"flax"},
    "plot/look": {"matplotlib"},
}


def place(path: pathlib.Path) -> str:
    """Where a file stands in the package, such as "families/siren"."""
    return str(path.relative_to(PACKAGE).with_suffix(""))


def floor(name: str) -> int:
    return FLOORS.index(name.split("/", maxsplit=1)[0])


def imports(path: pathlib.Path) -> set[str]:
    """Every module that a file imports, at any depth of its code."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            found.add(node.module or "")
            if node.module == "jaxinit":
                found |= {f"jaxinit.{alias.name}" for alias in node.names}
    return found


def rooms(path: pathlib.Path) -> set[tuple[str, ...]]:
    """What a file imports of the package, as the parts of the modules' names."""
    ours = {name for name in imports(path) if name.startswith("jaxinit.")}
    return {tuple(name.split(".")[1:]) for name in ours}


def modules(room: tuple[str, ...]) -> bool:
    """Whether an import is of a file that is private to its folder."""
    return len(room) > 1 and (PACKAGE / room[0] / f"{room[1]}.py").exists()


@pytest.mark.parametrize("path", FILES, ids=place)
def test_imports_point_down(path):
    here = place(path).split("/")[0]
    for folder, *_ in rooms(path):
        if here in ("__init__", "__main__") or folder == here:
            continue
        assert floor(folder) < floor(here), f"{place(path)} imports {folder}"


@pytest.mark.parametrize("path", FILES, ids=place)
def test_no_file_goes_past_the_door_of_another_folder(path):
    here = place(path).split("/")[0]
    assert not [r for r in rooms(path) if r[0] != here and modules(r)]


def test_every_folder_says_what_it_is_and_the_map_says_the_same():
    chart = (ROOT / "CONTRIBUTING.md").read_text()
    for folder in FLOORS:
        if (door := PACKAGE / folder / "__init__.py").exists():
            text = ast.get_docstring(ast.parse(door.read_text())) or ""
            first, _, _ = text.partition("\n")
            assert first.endswith(".") and len(first) < 88
            assert f"| `{folder}/` | {first} |" in chart
    named = re.findall(r"`((?:jaxinit|tests)/[\w/]+\.py)`", chart)
    homes = {"jaxinit": PACKAGE.parent, "tests": ROOT}  # a wheel lies elsewhere
    there = [(homes[name.split("/")[0]] / name).exists() for name in named]
    assert len(there) > 5 and all(there)


@pytest.mark.parametrize("path", FILES, ids=place)
def test_the_core_needs_jax_and_numpy_alone(path):
    roots = {name.split(".")[0] for name in imports(path)} - {"jaxinit"}
    guests = roots - set(sys.stdlib_module_names)
    assert guests <= {"jax", "numpy"} | GUESTS.get(place(path), set())


@pytest.mark.parametrize("path", FILES, ids=place)
def test_a_file_is_short_enough_to_read(path):
    assert len(path.read_text().splitlines()) <= 300


@pytest.mark.parametrize("path", FILES, ids=place)
def test_only_public_interfaces_of_jax(path):
    assert not [name for name in imports(path) if name.startswith("jax._src")]
    assert "_src" not in path.read_text()


def test_the_public_names_are_sorted_and_real():
    assert jaxinit.__all__ == sorted(jaxinit.__all__)
    assert all(hasattr(jaxinit, name) for name in jaxinit.__all__)
    public = {name for name in dir(jaxinit) if not name.startswith("_")}
    assert public == {*jaxinit.__all__, "nnx", "plot"}


def test_every_public_initializer_has_a_case():
    covered = {name for case in CASES for name in case.names}
    assert covered == set(jaxinit.available()) & set(jaxinit.__all__)
    assert covered == {name for name in jaxinit.available() if ":" not in name}


def agrees(version: str, changelog: str) -> bool:
    """Whether a version is the newest that a changelog heads, or above all of those.

    What is above them is under way, and has its changes under [Unreleased].
    """
    headings = re.findall(r"^## \[(.+?)\](.*)$", changelog, re.MULTILINE)
    released = [tuple(map(int, h.split("."))) for h, _ in headings if h[0].isdigit()]
    dates = [date for h, date in headings if h[0].isdigit()]
    assert released == sorted(set(released), reverse=True)
    assert all(re.fullmatch(r" - \d{4}-\d\d-\d\d", date) for date in dates)
    ours = tuple(map(int, version.split(".")))
    newest = released[0] if released else ()
    under_way = ours > newest and headings[0][0] == "Unreleased"
    return ours == newest or under_way


def test_the_version_is_that_of_the_changelog():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert agrees(project["version"], (ROOT / "CHANGELOG.md").read_text())


def test_another_version_is_found():
    released = "## [0.2.0] - 2026-01-31\n\n## [0.1.0] - 2025-11-30\n"
    assert agrees("0.2.0", released)
    assert not agrees("0.1.0", released)  # left behind
    assert not agrees("0.3.0", released)  # ahead, and nothing says of what
    assert agrees("0.3.0", "## [Unreleased]\n\n" + released)
    assert not agrees("0.1.0", "## [Unreleased]\n\n" + released)


def documented() -> list[tuple[str, str]]:
    """Every public name with its docstring, those of the methods too."""
    found = []
    names = {name: getattr(jaxinit, name) for name in jaxinit.__all__}
    for module in (
        jaxinit.rules,
        jaxinit.signal,
        jaxinit.theory,
        jaxinit.plot,
        jaxinit.nnx,
    ):
        place = module.__name__.removeprefix("jaxinit.")
        names |= {f"{place}:{name}": getattr(module, name) for name in module.__all__}
    for name, thing in names.items():
        if isinstance(thing, jaxinit.Initializer):
            continue  # zeros and ones: values of constant
        found.append((name, inspect.getdoc(thing) or ""))
        if inspect.isclass(thing):
            members = {
                method: inspect.getdoc(getattr(thing, method))
                for method, member in vars(thing).items()
                if not method.startswith("_")
                and isinstance(member, (types.FunctionType, staticmethod, property))
            }
            found += [
                (f"{name}.{method}", text) for method, text in members.items() if text
            ]
    return found


@pytest.mark.parametrize(("name", "text"), documented(), ids=lambda x: x.split("\n")[0])
def test_every_docstring_says_what_in_one_line(name, text):
    first, *rest = text.split("\n")
    assert first.endswith((".", ")")) and len(first) < 88
    assert not rest or rest[0] == ""


EXAMPLES = [
    (name, text)
    for name, text in documented()
    if ">>>" in text or ("." not in name and name != "Law")
]


@pytest.mark.sweep
@pytest.mark.parametrize(("name", "text"), EXAMPLES, ids=lambda x: x.split("\n")[0])
def test_every_example_holds(name, text, capsys):
    assert ">>>" in text and "SKIP" not in text
    with jax.debug_key_reuse(False):
        case = doctest.DocTestParser().get_doctest(
            text, {"__name__": name}, name, None, 0
        )
        result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(case)
    assert result.attempted > 0
    assert result.failed == 0, capsys.readouterr().out


def test_a_wrong_example_is_found(capsys):
    case = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, 0)
    assert doctest.DocTestRunner().run(case).failed == 1
    assert "Expected" in capsys.readouterr().out


BROKEN = {
    "lacks a name": (
        "import jax\njax.no_such_name",
        "AttributeError: module 'jax' has",
    ),
    "lacks a module": ("import no_such_module", "ModuleNotFoundError: No module named"),
    "lacks an import": ("from jax import no_such_name", "ImportError: cannot import"),
}


TOLD = """
import sys
for folder in sys.argv[1:]:
    for module in [m for m in sys.modules if m.split(".")[0] in ("flax", "jaxinit")]:
        del sys.modules[module]
    if folder == "none":
        sys.modules["flax"] = None
    sys.path.insert(0, folder)
    try:
        import jaxinit.nnx
    except ImportError as error:
        print(error, "|", type(error.__cause__).__name__)
    else:
        print("imported")
    del sys.path[0]
"""


def test_a_flax_that_does_not_import_is_told_from_none(tmp_path):
    """A subprocess finds the Flax of a folder, or none, and prints what it is told."""
    folders = [tmp_path / str(i) for i in range(len(BROKEN))]
    for folder, (code, _) in zip(folders, BROKEN.values(), strict=True):
        package, info = folder / "flax", folder / "flax-0.0.7.dist-info"
        package.mkdir(parents=True)
        info.mkdir()
        (package / "__init__.py").write_text(code)
        (info / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: flax\nVersion: 0.0.7\n"
        )
    done = subprocess.run(
        [sys.executable, "-c", TOLD, *map(str, folders), "none"],
        capture_output=True,
        text=True,
        check=True,
        cwd=PACKAGE.parent,
    )
    *broken, missing = done.stdout.splitlines()
    who, cure = "jaxinit.nnx needs flax", "pip install 'jaxinit[flax]'"
    assert missing == f"{who}: {cure} | ModuleNotFoundError"
    start = f"{who}, and flax 0.0.7 is installed but does not import "
    for line, (_, cause) in zip(broken, BROKEN.values(), strict=True):
        assert line.startswith(f"{start}with jax {jax.__version__} ({cause}")
        assert line.endswith(f"{cure} --upgrade | {cause.partition(':')[0]}")


def test_the_extras_that_messages_name_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = "".join(path.read_text() for path in FILES)
    named = set(re.findall(r"require\(\"[\w.]+\", \"\w+\", \"(\w+)\"\)", text))
    named |= set(re.findall(r"jaxinit\[(\w+)\]", text))
    assert named == {"demo", "flax", "plot"} <= set(project["optional-dependencies"])
