# SPDX-License-Identifier: Apache-2.0
"""The one door: without any one thing that JAX does not promise, the rest works."""

import ast
import functools
import importlib
import json
import operator
import pathlib
import subprocess
import sys
from typing import Any

import jax
import pytest

import jaxinit
from jaxinit import compat

QUICK = True  # see conftest.py

PACKAGE = pathlib.Path(jaxinit.__file__).parent

REMOVED = [
    *(f"{place}.{name}" for name, (place, _) in sorted(compat.USES.items())),
    "jax.core.Tracer",
    "jax.extend.core.primitives.jit_p",
    "jax.extend.core.primitives.random_bits_p",
    "jax.nn.mish",
]
WHOLE = "jax.nn.sparse_sigmoid"  # a function that nobody misses

# One process: a name is taken away, the package imported anew, the name put back.
TAKEN_AWAY = """
import importlib, json, sys, traceback, warnings
import jax
from flax import linen as nn

jax.config.update("jax_disable_most_optimizations", True)
jax.config.update("jax_compilation_cache_dir", sys.argv[1])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
model, x = nn.Dense(3), jax.numpy.ones((2, 4))
variables = model.init(jax.random.key(0), x)

def works():
    import jaxinit

    key = jax.random.key(0)
    found = {
        "draws": [
            float(jaxinit.get(name)(key, (6, 4)).sum())
            for name in ("he_normal", "orthogonal", "kaiming_uniform", "zeros")
        ],
        "bits": float(jax.random.normal(jaxinit.fast_key(key), (3,)).sum()),
    }
    def init(key):
        return [jaxinit.normal()(k, (8, 4)) for k in jax.random.split(key, 3)]
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        found["jit_init"] = [float(x.sum()) for x in jaxinit.jit_init(init)(key)]
    found["warned"] = [str(w.message) for w in warned if w.category is RuntimeWarning]
    try:
        from jaxinit import signal
        found["report"] = len(signal.report(model, variables, x).rows)
    except (AttributeError, ImportError) as error:
        found["report"] = str(error)
    return found

for what in sys.argv[2:]:
    place, _, name = what.rpartition(".")
    module = importlib.import_module(place)
    thing = getattr(module, name)
    for ours in [m for m in sys.modules if m.partition(".")[0] == "jaxinit"]:
        del sys.modules[ours]
    delattr(module, name)
    try:
        print(json.dumps({what: works()}))
    except Exception:
        print(json.dumps({what: traceback.format_exc()}))
    setattr(module, name, thing)
"""


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What works without each name, or the traceback."""
    cache = str(tmp_path_factory.mktemp("programs"))
    done = subprocess.run(
        [sys.executable, "-c", TAKEN_AWAY, cache, WHOLE, *REMOVED],
        capture_output=True,
        text=True,
        cwd=PACKAGE.parent,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = map(json.loads, done.stdout.splitlines())
    return functools.reduce(operator.or_, lines)


@pytest.mark.parametrize("name", sorted(compat.USES))
def test_without_one_name_the_rest_works(name, without):
    place, user = compat.USES[name]
    found, whole = without[f"{place}.{name}"], without[WHOLE]
    assert isinstance(found, dict), found
    assert found["draws"] == pytest.approx(whole["draws"], rel=1e-5)
    assert found["bits"] == pytest.approx(whole["bits"], rel=1e-5)
    assert found["jit_init"] == pytest.approx(whole["jit_init"], rel=1e-5)
    for feature, told in (("jit_init", found["warned"]), ("signal", found["report"])):
        if told and told != whole["report"]:
            assert feature in user
            assert f"{place}.{name}, which is needed by" in str(told)
            assert "the initializers do without" in str(told)
    if user == "jit_init and signal" and name != "jaxprs_in_params":
        assert found["warned"] and isinstance(found["report"], str)


@pytest.mark.parametrize("what", REMOVED[len(compat.USES) :])
def test_without_a_primitive_or_a_function_the_initializers_work(what, without):
    found, whole = without[what], without[WHOLE]
    assert isinstance(found, dict), found
    assert found["draws"] == pytest.approx(whole["draws"], rel=1e-5)
    assert found["jit_init"] == pytest.approx(whole["jit_init"], rel=1e-5)
    assert all(f"{what}, which is needed by jit_init" in w for w in found["warned"])


def test_nothing_else_touches_what_jax_does_not_promise():
    """No file but the door imports it or takes it from `jax` by attribute."""
    private = (
        "jax.config.",
        "jax.core",
        "jax.extend",
        "jax.interpreters",
        "jax.make_user_context",
    )
    for path in PACKAGE.rglob("*.py"):
        if path.name == "compat.py":
            continue
        tree = ast.parse(path.read_text())
        names = {ast.unparse(n) for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
        assert not {n for n in names if n.startswith(private)}, path


@pytest.mark.parametrize(
    ("name", "field"), [(n, f) for n, fs in compat.FIELDS.items() for f in fs]
)
def test_a_class_without_a_field_is_missing(name, field, monkeypatch):
    place, _ = compat.USES[name]
    others = {other: None for other in compat.FIELDS[name] if other != field}
    module = importlib.import_module(place)
    monkeypatch.setattr(module, name, type(name, (), others))
    monkeypatch.delitem(vars(compat), name, raising=False)
    with pytest.raises(compat.Missing, match=rf"{place}.{name}.{field}, which is"):
        getattr(compat, name)
    monkeypatch.undo()
    assert compat.has(name)


@pytest.mark.parametrize("name", compat.SETTINGS)
def test_a_setting_that_is_gone_has_its_last_value(name, monkeypatch):
    assert compat.setting(name) == getattr(jax.config, name)
    monkeypatch.setattr(jax, "config", object())
    assert compat.setting(name) == compat.SETTINGS[name]


def test_the_door_tells_what_it_has():
    assert all(map(compat.has, compat.USES))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        compat.nothing  # noqa: B018
