# SPDX-License-Identifier: Apache-2.0
"""The command line: what each command prints, what it refuses, and the demo."""

import itertools
import math
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxinit
from jaxinit import Fans, Law
from jaxinit.cli import commands as _cli
from jaxinit.cli import demo as _demo
from jaxinit.cli import digits as _digits
from jaxinit.cli import show as _show
from jaxinit.cli.commands import main
from jaxinit.cli.show import read_call

QUICK = True  # see conftest.py

OWN = [name for name in jaxinit.available() if ":" not in name]


def printed(capsys, *argv):
    assert main(argv) == 0
    return capsys.readouterr().out


def refused(capsys, *argv):
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


# no command, and the version


def test_without_a_command_it_says_what_there_is(capsys):
    text = printed(capsys)
    for name in ("demo", "list", "recipes", "gain", "show", "report"):
        assert re.search(rf"^    {name} +\w", text, re.M)
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"jaxinit {jaxinit.__version__}\n"


# report

MODEL = """
import jax, jaxinit
from jax.nn import sigmoid

def ill():
    w = [0.1 * w for w in jax.random.normal(jax.random.key(0), (8, 64, 64))]
    x = jax.random.normal(jax.random.key(1), (16, 64))

    def run(params, x):
        for w in params:
            x = sigmoid(x @ w)
        return x

    return run, w, x

nothing = None
"""


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    Path("a_model_of_mine.py").write_text(MODEL)


@pytest.mark.parametrize("where", ["a_model_of_mine", "./a_model_of_mine.py"])
def test_report_of_a_model_in_a_file(where, model, capsys):
    text = printed(capsys, "report", f"{where}:ill")
    assert text.splitlines()[0].split()[:2] == ["path", "shape"]
    assert "the gradient vanishes: " in text


def test_report_as_a_page(model, capsys):
    out = printed(capsys, "report", "a_model_of_mine:ill", "--html", "page.html")
    assert out.startswith("wrote page.html\nthe gradient vanishes")
    text = Path("page.html").read_text("utf-8")
    assert text.count("<tr>") == 1 + 8 and "data:image/png;base64," in text


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("a_model_of_mine", "name a function as module:function"),
        ("no_such_module:f", "No module named 'no_such_module'"),
        ("./no_such_file.py:f", "No such file"),
        ("a_model_of_mine:fall", "has no attribute 'fall'"),
        ("a_model_of_mine:nothing", "is no function, but None"),
    ],
)
def test_report_of_what_is_not_there(target, words, model, capsys):
    assert words in refused(capsys, "report", target)


# list


def names_and_formulas(text):
    rows = [
        line.strip().partition(" ") for line in text.splitlines() if line[:1] == " "
    ]
    return {name: summary.strip() for name, _, summary in rows}


def test_list_has_every_initializer_and_its_formula(capsys):
    rows = names_and_formulas(printed(capsys, "list"))
    assert sorted(name for name in rows if ":" not in name) == OWN
    assert rows["he_uniform"] == (
        "He (2015) uniform: U(-r, r), r = √(6 / fan_in), so Var W = 2 / fan_in"
    )
    assert rows["ones"].startswith("every entry is 1;")


def test_every_initializer_has_a_group():
    grouped = _cli._groups(OWN)
    assert list(grouped) == list(_cli.GROUPS)
    assert sorted(itertools.chain.from_iterable(grouped.values())) == OWN


def test_what_has_no_group_is_listed_too():
    assert _cli._groups(["ones", "mine:laplace"])["more"] == ["mine:laplace"]


def test_list_on_a_terminal_says_the_same(capsys, monkeypatch):
    plain = names_and_formulas(printed(capsys, "list"))
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    styled = printed(capsys, "list")
    assert "\x1b[1m" in styled
    assert names_and_formulas(re.sub(r"\x1b\[[0-9;]*m", "", styled)) == plain


def test_list_without_rich(capsys, monkeypatch):
    plain = printed(capsys, "list")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert printed(capsys, "list") == plain


def test_recipes_are_listed_and_measured(capsys):
    lines = printed(capsys, "recipes").splitlines()
    listed = {line.split()[0]: line for line in lines}
    assert listed.keys() == set(jaxinit.rules.__all__) - {"DeepNorm"}
    assert "smaller where a branch ends" in listed["gpt2"]
    told = printed(capsys, "recipes", "--like", "gpt2").splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in told[len(lines) + 2 :]}
    assert rows["recipe"][:3] == ["tokens", "places", "query"]
    of = dict(zip(rows["recipe"], rows["gpt2"], strict=True))
    assert of["up"] == "0.02"
    assert of["down"] == of["out"] == "0.004082"  # 0.02 / √24
    assert "resnet" not in rows


def test_python_m_jaxinit(capsys):
    done = subprocess.run(
        [sys.executable, "-X", "utf8", "-m", "jaxinit", "list"],
        capture_output=True,
        check=True,
        cwd=Path(jaxinit.__file__).parents[1],
        encoding="utf-8",
    )
    rows = names_and_formulas(printed(capsys, "list"))
    assert names_and_formulas(done.stdout) == {name: rows[name] for name in OWN}


# gain


def gains_in(text):
    return {line.split()[0]: line.split()[1] for line in text.splitlines()}


def test_gain_prints_twelve_digits(capsys):
    assert gains_in(printed(capsys, "gain", "relu")) == {
        "forward": "1.41421356237",
        "backward": "1.41421356237",
        "std": f"{1 / math.sqrt(1 / 2 - 1 / (2 * math.pi)):.11f}",
        "PyTorch": "1.41421356237",
    }


def test_gain_pytorch_line_only_where_its_table_has_one(capsys):
    assert gains_in(printed(capsys, "gain", "tanh"))["PyTorch"] == "1.66666666667"
    assert set(gains_in(printed(capsys, "gain", "silu"))) == {
        "forward",
        "backward",
        "std",
    }
    assert gains_in(printed(capsys, "gain", "conv2d")) == {"PyTorch": "1.00000000000"}


def test_gain_in_one_direction(capsys):
    text = printed(capsys, "gain", "tanh", "--direction", "backward")
    assert gains_in(text) == {"backward": f"{jaxinit.gain('tanh', 'backward'):.11f}"}


# show: reading the call


@pytest.mark.parametrize(
    ("text", "init"),
    [
        ("he_normal", jaxinit.he_normal()),
        (" he_normal() ", jaxinit.he_normal()),
        ("jaxinit.he_normal()", jaxinit.he_normal()),
        ("zeros", jaxinit.zeros),
        (
            "kaiming_normal('fan_out', \"gelu\")",
            jaxinit.kaiming_normal("fan_out", "gelu"),
        ),
        ("lecun_normal(in_axis=[0, -2])", jaxinit.lecun_normal(in_axis=(0, -2))),
        ("constant(-1.5)", jaxinit.constant(-1.5)),
        ("constant(1 - 2j)", jaxinit.constant(1 - 2j)),
        ("constant((True, False))", jaxinit.constant((True, False))),
        (
            "truncated_normal(1, None, 8, inf)",
            jaxinit.truncated_normal(1, lower=8, upper=math.inf),
        ),
        ("trunc_normal(a=-inf)", jaxinit.trunc_normal(a=-math.inf)),
        ("scaled(orthogonal, 0.5)", jaxinit.scaled(jaxinit.orthogonal(), 0.5)),
        (
            "he_normal(fans=Fans.conv(strides=(2, 1)))",
            jaxinit.he_normal(fans=Fans.conv(strides=(2, 1))),
        ),
    ],
)
def test_a_call_is_read_as_python_reads_it(text, init):
    assert read_call(text) == init


@pytest.mark.parametrize(
    "init",
    [
        jaxinit.truncated_normal(1.0, lower=-math.inf, mean=0.5),
        jaxinit.blocks(jaxinit.stacked(jaxinit.xavier_uniform(2.0)), 3, 0),
        jaxinit.constant(((1 + 2j, 0.0),)),
        jaxinit.glorot_normal(fans=Fans.einsum("bth,hdf->btdf"), dtype="bfloat16"),
    ],
    ids=repr,
)
def test_a_repr_is_read_back(init):
    assert read_call(repr(init)) == init


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("__import__('os')", "there is no initializer '__import__'; see python -m"),
        ("__import__('os').system('true')", "cannot read \"__import__('os').system\""),
        ("he_normal().law", "cannot read 'he_normal().law'"),
        ("jaxinit._cli.main()", "cannot read 'jaxinit._cli.main'"),
        ("Fans.__class__(1)", "must be one of 'Fans.axes'"),
        ("Fans.cnov()", "did you mean 'Fans.conv'?"),
        ("he_norml()", "there is no initializer 'he_norml'; did you mean 'he_normal'?"),
        ("kaiming_normal(nonlinearity=gelu)", "there is no initializer 'gelu'"),
        ("(lambda: 1)()", "cannot read 'lambda: 1'"),
        ("constant([n for n in (1, 2)])", "cannot read '[n for n in (1, 2)]'"),
        ("constant(2 ** 9)", "cannot read '2 ** 9'"),
        ("constant(f'{1}')", "cannot read"),
        ("constant(...)", "cannot read '...'"),
        ("constant(-'a')", "cannot read \"'a'\""),
        ("constant(float('1'))", "there is no initializer 'float'"),
        ("normal(*(1,))", "cannot read '*(1,)'"),
        ("normal(**{'stddev': 1})", "cannot read \"{'stddev': 1}\""),
        ("he_normal(", "cannot read 'he_normal('; write a call such as"),
        ("he_normal(); ones", "cannot read 'he_normal(); ones'"),
        ("(" * 5000, "; write a call such as he_normal()"),
        ("", "cannot read ''; write a call such as he_normal()"),
        ("3", "'3' is no initializer; write a call such as"),
        ("Fans.conv()", "'Fans.conv()' is no initializer"),
        ("zeros(1)", "zeros is an initializer itself and takes no arguments"),
        ("constant", "constant(value, dtype): missing a required argument: 'value'"),
        ("he_normal(1, 2, 3, 4, 5)", "too many positional arguments"),
        ("normal(-1)", "normal: stddev must be >= 0, got -1"),
        ("scaled(3, 2)", "scaled: init must be an initializer, got 3"),
    ],
)
def test_what_is_no_call_of_an_initializer_is_refused(capsys, text, words):
    message = refused(capsys, "show", text, "--shape", "4,3")
    assert words in message
    assert len(message) < 400


# show: what it prints


def rows_of(text):
    """The lines of the histogram: (where the bin starts, count, rest)."""
    form = re.compile(r" *(\S+|not finite)  [█▏▎▍▌▋▊▉ ]{36}  +(\d+)(.*)")
    found = map(form.fullmatch, text.splitlines())
    return [(row[1], int(row[2]), row[3]) for row in found if row]


@pytest.mark.parametrize(
    ("call", "dtype", "shape"),
    [
        ("he_normal()", "float32", "3,3,16,8"),
        ("he_normal()", "bfloat16", "(40, 30)"),
        ("uniform(3.0)", "float8_e4m3fn", "1000"),
        ("orthogonal", "float64", "16,16"),
        ("lecun_normal", "complex64", "20,20"),
        ("dirac", "int8", "3,4,4"),
        ("zeros", "bool", "7"),
        ("normal", "float16", ""),
    ],
)
def test_show_counts_every_entry(capsys, call, dtype, shape):
    text = printed(capsys, "show", call, "--shape", shape, "--dtype", dtype)
    size = math.prod(map(int, re.findall(r"\d+", shape)))
    assert f"{dtype}, entries: {size}, seed: 0" in text
    assert sum(count for _, count, _ in rows_of(text)) == size


def test_show_wants_what_the_law_promises_and_measures_the_draw(capsys):
    init = jaxinit.kaiming_uniform("fan_out", "relu")
    text = printed(
        capsys,
        "show",
        "kaiming_uniform('fan_out', 'relu')",
        "--shape=64,32",
        "--seed=7",
    )
    law, w = init.law((64, 32)), init(jax.random.key(7), (64, 32))
    lines = dict(re.findall(r"^(mean|standard deviation|min|max) +(.*)$", text, re.M))
    wanted = {name: line.split()[0] for name, line in lines.items()}
    measured = {name: float(line.split()[1]) for name, line in lines.items()}
    assert text.startswith(f"kaiming_uniform('fan_out', 'relu') = {init!r}\n")
    assert "fan_in: 64\nfan_out: 32\n" in text
    assert wanted == {
        "mean": "0",
        "standard deviation": f"{law.std:.6g}",
        "min": f"{law.low:.6g}",
        "max": f"{law.high:.6g}",
    }
    entries = np.asarray(w, np.float64)
    values = [entries.mean(), entries.std(), entries.min(), entries.max()]
    np.testing.assert_allclose(list(measured.values()), values, rtol=1e-5)
    z = {
        name: float(line.split()[2])
        for name, line in lines.items()
        if len(line.split()) > 2
    }
    assert set(z) == {"mean", "standard deviation"}
    assert max(map(abs, z.values())) < 5


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("call", "count"),
    [
        ("orthogonal", 64 - 8 * 9 // 2),
        ("scaled(orthogonal, 2)", 64 - 8 * 9 // 2),
        ("blocks(orthogonal, 2)", 2 * (32 - 4 * 5 // 2)),
        ("chrono(9)", 8 * 2),
        ("sparse(0.5)", 8 * 4),
        ("normal", None),
        ("scaled(normal, 2)", None),
    ],
)
def test_show_says_how_many_entries_are_independent(call, count, capsys):
    lines = printed(capsys, "show", call, "--shape", "8,8").splitlines()
    said = [line for line in lines if line.startswith("independent entries")]
    assert said == ([] if count is None else [f"independent entries: {count}"])
    (mean,) = (line.split() for line in lines if line.startswith("mean "))
    assert len(mean) == 4 and abs(float(mean[3])) < 5


def test_show_has_no_z_where_nothing_is_drawn(capsys):
    for call in ("ones", "scaled(normal, 0)", "blocks(orthogonal, 8)"):
        text = printed(capsys, "show", call, "--shape", "1,8")
        (mean,) = (line.split() for line in text.splitlines() if line[:5] == "mean ")
        assert len(mean) == 3


def test_show_omits_the_fans_that_a_shape_does_not_tell(capsys):
    call = "he_normal(fans=Fans.conv_local(1))"
    text = printed(capsys, "show", call, "--shape", "5,12,3")
    assert "fan_in: 12\n" in text
    assert "fan_out" not in text


def test_show_of_no_entries(capsys):
    text = printed(capsys, "show", "he_normal", "--shape", "0,4")
    assert "0 × 4, float32, entries: 0" in text
    assert rows_of(text) == []


def test_show_of_an_initializer_without_a_law(capsys, monkeypatch):
    @jaxinit.initializer
    def laplace(scale=1.0):
        def init(key, shape, dtype):
            return scale * jax.random.laplace(key, shape, dtype)

        return init

    monkeypatch.setattr(_show, "read_call", lambda text: laplace())
    text = printed(capsys, "show", "laplace", "--shape", "40,40")
    assert "measured" in text
    assert "wanted" not in text
    assert sum(count for _, count, _ in rows_of(text)) == 1600


# show: the statistics


@pytest.fixture(scope="module")
def gaussian():
    return np.random.default_rng(0).normal(size=2**16)


def test_histogram_counts_and_marks(gaussian):
    rows = rows_of("\n".join(_show.histogram(gaussian, Law(0.0, 1.0))))
    starts = [float(start) for start, _, _ in rows]
    assert len(rows) == _show.ROWS
    assert sum(count for _, count, _ in rows) == gaussian.size
    width = starts[1] - starts[0]
    marked = {
        mark.strip(" ←"): start
        for start, (_, _, mark) in zip(starts, rows, strict=True)
        if mark
    }
    assert set(marked) == {"mean - std", "mean", "mean + std"}
    for word, place in (("mean - std", -1), ("mean", 0), ("mean + std", 1)):
        assert marked[word] <= place + 1e-3
        assert place - 1e-3 < marked[word] + width


def test_histogram_bars_grow_with_the_counts(gaussian):
    lines = list(_show.histogram(gaussian))
    counts = [count for _, count, _ in rows_of("\n".join(lines))]
    eighths = [
        sum(8 if c == "█" else "▏▎▍▌▋▊▉".find(c) + 1 for c in line) for line in lines
    ]
    full = 8 * _show.BAR
    wanted = [math.ceil(full * count / max(counts)) for count in counts]
    assert eighths == wanted


def test_histogram_of_few_values_and_of_no_numbers():
    entries = np.array([0.0, 2.0, 2.0, np.nan, np.inf])
    assert [row[:2] for row in rows_of("\n".join(_show.histogram(entries)))] == [
        ("0", 1),
        ("2", 2),
        ("not finite", 2),
    ]


# errors


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["lst"], "invalid choice: 'lst'"),
        (["gain", "gelo"], "'gelo' is not known; did you mean 'gelu'?"),
        (["gain", "relu", "--direction", "back"], "did you mean 'backward'?"),
        (["show", "he_normal"], "required: --shape"),
        (["show", "he_normal", "--shape", "4,x"], "like 3,3,64,128; got '4,x'"),
        (["show", "he_normal", "--shape=-4,3"], "shape[0] must be at least 0, got -4"),
        (["show", "he_normal", "--shape", "4"], "'truncated_normal') for shape (4,): "),
        (["show", "he_normal", "--shape", "9999,9999"], "99980001 entries; show draws"),
        (["show", "he_normal", "--shape", "4,3", "--dtype", "int32"], "a float dtype"),
        (["show", "he_normal", "--shape", "4,3", "--dtype", "flot"], "got 'flot'"),
        (
            ["show", "he_normal", "--shape", "4,3", "--seed", "-1"],
            "from 0 to 4294967295",
        ),
        (["show", "he_normal", "--shape", "4,3", "--seed", "a"], "got 'a'"),
        (["demo", "--depth", "0"], "a whole number from 1 to 4294967295, got '0'"),
        (["demo", "--output", "demo.txt"], "must end in one of"),
        (["demo", "--output", "no-such-folder/demo.png"], "in a folder that exists"),
    ],
    ids=" ".join,
)
def test_errors_are_said_in_words(capsys, argv, words):
    assert words in refused(capsys, *argv)


@pytest.mark.parametrize("package", ["flax", "matplotlib", "optax", "rich", "sklearn"])
def test_the_demo_names_the_package_that_is_missing(monkeypatch, package):
    for module in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, package, None)
    for module in ("jaxinit.cli.demo", "jaxinit.cli.digits"):
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(
        SystemExit, match=rf"no {package}.*pip install \"jaxinit\[demo\]"
    ):
        main(["demo"])


# the demo

SMALL = _digits.Settings(depth=3, width=32, epochs=6)


@pytest.fixture(scope="module")
def small():
    """The runs of SMALL, and all that was reported on the way."""
    starts: list[dict[str, _digits.Signal]] = []
    epochs: list[tuple[str, int, float]] = []
    runs = _digits.run_demo(
        SMALL, on_start=starts.append, on_epoch=lambda *args: epochs.append(args)
    )
    return runs, starts, epochs


def test_demo_reports_as_it_goes(small):
    runs, starts, epochs = small
    assert starts == [{name: run.signal for name, run in runs.items()}]
    assert [args[:2] for args in epochs] == [
        (name, epoch) for name in _digits.SCHEMES for epoch in range(1, 7)
    ]
    for name, run in runs.items():
        assert run.losses.shape == (6, 12)
        means = [loss for n, _, loss in epochs if n == name]
        np.testing.assert_allclose(means, run.losses.mean(axis=1), rtol=1e-6)
        assert run.final_loss == means[-1] < means[0]
        assert run.accuracy > 2 / _digits.CLASSES  # a guess has 0.1 ± 0.02


def test_demo_prints_trains_and_draws(capsys, tmp_path, small):
    output = tmp_path / "demo.png"
    text = printed(
        capsys, "demo", "--depth=3", "--width=32", "--epochs=6", f"--output={output}"
    )
    assert output.read_bytes().startswith(b"\x89PNG")
    assert len(re.findall(r"^ +[123](?: +\d\S*){6}$", text, re.M)) == 3
    losses = re.findall(r"^(\w+) +epoch +(\d+)   loss (\S+)$", text, re.M)
    assert losses == [
        (name, str(epoch), f"{loss:.3f}")
        for name, epoch, loss in small[2]
        if epoch in (1, 2, 4, 6)
    ]
    assert text.endswith(f"\n{_demo.verdict(small[0])}\n\nFigure: {output}\n")


def test_demo_on_a_terminal_has_progress_bars(capsys, tmp_path, monkeypatch, small):
    runs, starts, epochs = small

    def replay(settings, *, on_start, on_epoch):
        on_start(starts[0])
        for args in epochs:
            on_epoch(*args)
        return runs

    monkeypatch.setattr(_demo, "run_demo", replay)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    _demo.present(SMALL, tmp_path / "demo.svg")
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().out)
    for name, run in runs.items():
        assert re.search(rf"{name} +━+ +6/6 epochs   loss {run.final_loss:.3f}", text)
    assert "   loss " not in re.sub(r"/\d+ epochs   loss ", "", text)  # no plain lines


def test_signal_is_that_of_the_forward_pass(small):
    images = _digits.load(SMALL.seed).images
    for name, init in _digits.SCHEMES.items():
        variables = _digits.Network(SMALL, init).lazy_init(
            jax.random.key(0), images[:1]
        )
        x, std, rms = images.astype(np.float64), [], []
        for layer in range(SMALL.depth):
            kernel = np.asarray(variables["params"][f"Dense_{layer}"]["kernel"])
            x = np.maximum(x @ kernel, 0)
            std.append(x.std())
            rms.append(np.sqrt(np.mean(x**2)))
        signal = small[0][name].signal
        np.testing.assert_allclose(signal.std, std, rtol=1e-4)
        np.testing.assert_allclose(signal.rms, rms, rtol=1e-4)


def test_theory_halves_the_square_under_xavier_and_keeps_it_under_he(small):
    square = np.mean(_digits.load(SMALL.seed).images ** 2)
    xavier, he = (small[0][name].signal.theory for name in _digits.SCHEMES)
    np.testing.assert_allclose(xavier[1:] / xavier[:-1], math.sqrt(1 / 2), rtol=1e-6)
    np.testing.assert_allclose(xavier[0] ** 2, square * 64 / (64 + 32), rtol=1e-6)
    np.testing.assert_allclose(he, np.sqrt(square), rtol=1e-6)


def test_digits_are_standardised_by_the_training_images_alone():
    data = _digits.load(3)
    assert (len(data.images), len(data.test_images)) == (1500, 297)
    touched = data.images.std(axis=0) > 0
    np.testing.assert_allclose(data.images.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(data.images.std(axis=0)[touched], 1, rtol=1e-4)
    assert touched.sum() > 50
    assert np.abs(data.test_images.mean(axis=0)).max() > 1e-3


def run_ending_at(loss):
    signal = _digits.Signal(*(np.ones(2) for _ in range(3)))
    return _digits.Run(signal, np.array([[2.4, 2.3], [loss, loss]]), 0.5)


@pytest.mark.parametrize(
    ("xavier", "he", "words"),
    [
        (2.303, 0.01, "xavier_uniform stalled, kaiming_normal trained: as in"),
        (0.01, 2.303, "xavier_uniform trained, kaiming_normal stalled: unlike in"),
        (0.01, 0.01, "xavier_uniform trained, kaiming_normal trained: unlike in"),
        (1.9, 0.01, "xavier_uniform learned a little, kaiming_normal trained: unlike"),
        (2.303, math.nan, "xavier_uniform stalled, kaiming_normal diverged: unlike"),
        (9.0, 2.1, "xavier_uniform diverged, kaiming_normal learned a little: unlike"),
    ],
)
def test_the_verdict_is_read_off_the_losses(xavier, he, words):
    runs = {
        "xavier_uniform": run_ending_at(xavier),
        "kaiming_normal": run_ending_at(he),
    }
    lines = _demo.verdict(runs).splitlines()
    assert lines[0].startswith(f"xavier_uniform: loss 2.400 to {xavier:.3f} (a guess")
    assert lines[-1].startswith(words)
    assert "figure 3 of He et al. 2015 (arXiv:1502.01852)" in lines[-1]


@pytest.mark.parametrize(
    ("share", "outcome"),
    [
        (0.49, "trained"),
        (0.51, "learned a little"),
        (0.94, "learned a little"),
        (0.96, "stalled"),
        (1.04, "stalled"),
        (1.06, "diverged"),
    ],
)
def test_an_outcome_is_a_share_of_the_loss_of_a_guess(share, outcome):
    assert run_ending_at(share * math.log(10)).outcome == outcome
