# SPDX-License-Identifier: Apache-2.0
"""The house: imports point down, names are listed, documented and tested."""

import ast
import doctest
import inspect
import pathlib
import tomllib

import jax
import pytest

import jaxinit
import jaxinit.linen
import jaxinit.nnx
import jaxinit.plot
from tests.cases import CASES

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = pathlib.Path(jaxinit.__file__).parent
FILES = sorted(PACKAGE.glob("*.py"))

FLOORS = [
    {
        "_checks",
        "_einsum",
        "_quadrature",
        "_roots",
        "_sums",
        "_signal_flags",
        "_table",
        "_threefry",
    },
    {"_numbers", "_style", "_value"},
    {"_fans", "_gains", "_haar", "_initializer"},
    {"_density", "_distributions", "_kernels"},
    {
        "_constants",
        "_conv_orthogonal",
        "_fourier",
        "_orthogonal",
        "_sparse",
        "_truncated",
        "_variance_scaling",
    },
    {
        "_complex",
        "_gates",
        "_hadamard",
        "_lru",
        "_meanfield",
        "_presets",
        "_recurrent",
        "_siren",
        "_spectral",
        "_state_space",
        "_torch",
    },
    {"_combinators", "_phases", "_registry", "_signature"},
    {"_jaxpr", "_taps", "_upsampling"},
    {"_equations", "_fast", "_layers", "_linen_taps", "_nnx_taps", "_tap_plan"},
    {"_plan", "_tapped"},
    {"_jit_init"},
    {"_rules"},
    {"_recipes"},
    {
        "_rules_attention",
        "_rules_cells",
        "_rules_depth",
        "_rules_libraries",
        "_rules_models",
        "_tree",
        "theory",
    },
    {"_mup", "_tree_table"},
    {"_depth_mup"},
    {"linen", "nnx", "plot", "rules"},
    {"signal"},
    {"_lsuv"},
    {"_digits", "_show"},
    {"_demo"},
    {"_cli"},
    {"__init__", "__main__"},
]
FLOOR = {name: i for i, names in enumerate(FLOORS) for name in names}
GUESTS = {
    "_cli": {"rich"},
    "_demo": {"matplotlib", "rich"},
    "_digits": {"flax", "optax", "sklearn"},
    "_linen_taps": {"flax"},
    "_nnx_taps": {"flax"},
    "_style": {"matplotlib"},
    "linen": {"flax"},
    "nnx": {"flax"},
}


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


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_imports_point_down(path):
    ours = {name for name in imports(path) if name.startswith("jaxinit.")}
    rooms = {name.split(".")[1] for name in ours}
    above = {r for r in rooms if r in FLOOR and FLOOR[r] >= FLOOR[path.stem]}
    assert not above
    assert rooms <= set(FLOOR) or path.stem == "__main__"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_core_needs_jax_and_numpy_alone(path):
    import sys

    roots = {name.split(".")[0] for name in imports(path)} - {"jaxinit"}
    guests = roots - set(sys.stdlib_module_names)
    assert guests <= {"jax", "numpy"} | GUESTS.get(path.stem, set())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_is_short_enough_to_read(path):
    assert len(path.read_text().splitlines()) <= 330


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_only_public_interfaces_of_jax(path):
    assert not [name for name in imports(path) if name.startswith("jax._src")]
    assert "_src" not in path.read_text()


def test_the_public_names_are_sorted_and_real():
    assert jaxinit.__all__ == sorted(jaxinit.__all__)
    assert all(hasattr(jaxinit, name) for name in jaxinit.__all__)
    public = {name for name in vars(jaxinit) if not name.startswith("_")}
    asked_for = {"linen", "nnx", "plot"}  # there once they are imported
    assert public - asked_for == set(jaxinit.__all__)


def test_every_public_initializer_has_a_case():
    covered = {name for case in CASES for name in case.names}
    assert covered == set(jaxinit.available()) & set(jaxinit.__all__)
    assert covered == {name for name in jaxinit.available() if ":" not in name}


def test_the_version_is_that_of_the_changelog():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=3.11"
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text()


def documented() -> list[tuple[str, str]]:
    """Every public name with its docstring, those of the methods too."""
    found = []
    names = {name: getattr(jaxinit, name) for name in jaxinit.__all__}
    for module in (
        jaxinit.rules,
        jaxinit.signal,
        jaxinit.theory,
        jaxinit.plot,
        jaxinit.linen,
        jaxinit.nnx,
    ):
        place = module.__name__.removeprefix("jaxinit.")
        names |= {f"{place}:{name}": getattr(module, name) for name in module.__all__}
    for name, thing in names.items():
        if isinstance(thing, jaxinit.Initializer):
            continue  # zeros and ones: values of constant
        found.append((name, inspect.getdoc(thing) or ""))
        if inspect.isclass(thing):
            methods = inspect.getmembers(thing, inspect.isfunction)
            found += [
                (f"{name}.{method}", inspect.getdoc(function) or "")
                for method, function in methods
                if not method.startswith("_") and hasattr(function, "__wrapped__")
            ]
    return found


@pytest.mark.parametrize(("name", "text"), documented(), ids=lambda x: x.split("\n")[0])
def test_every_docstring_says_what_in_one_line(name, text):
    first, *rest = text.split("\n")
    assert first.endswith((".", ")")) and len(first) < 88
    assert not rest or rest[0] == ""


EXAMPLES = [(n, t) for n, t in documented() if "." not in n and n != "Law"]


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
