# SPDX-License-Identifier: Apache-2.0
"""Ours, JAX's, PyTorch's and the plain fill of the same array, side by side.

Each competitor runs in a process of its own; the processes take turns, and the figure
is the median over the turns of each turn's median, in brackets the least and the
greatest of the turns. A ratio above 1 means that jaxinit is faster (for `fill`: how
many times the fill of the array jaxinit takes).
"""

import argparse
import importlib.metadata
import importlib.util
import itertools
import json
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.reading import reading

ROOT = Path(__file__).parent.parent
SAMPLING = ("he_normal", "kaiming_normal", "glorot_uniform", "truncated_normal")
SIZES = ((64, 64), (1024, 1024), (4096, 4096), (8192, 8192))
ORTHOGONAL = ((1024, 1024), (2048, 2048), (4096, 1024), (4096, 4096))


class Worker:
    """One competitor's process."""

    def __init__(self, competitor: str) -> None:
        self.competitor = competitor
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def ask(self, **request: Any) -> Any:
        assert self.process.stdin and self.process.stdout
        print(json.dumps(request), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.competitor} died at {request}")
        return json.loads(line)

    def stop(self) -> None:
        with self.process as process:
            process.kill()


def in_turns(
    workers: list[Worker], rounds: int, **request: Any
) -> dict[str, list[float]]:
    """Each competitor's median seconds in each round, in which they take turns."""
    medians: dict[str, list[float]] = {worker.competitor: [] for worker in workers}
    for _, worker in itertools.product(range(rounds), workers):
        answer = worker.ask(competitor=worker.competitor, **request)
        medians[worker.competitor].append(statistics.median(answer))
    return medians


def row(title: str, seconds: dict[str, list[float]]) -> dict[str, Any]:
    """The medians over the rounds, and each ratio with its range over the rounds."""

    def over(above: str, below: str) -> list[float] | None:
        if above not in seconds or below not in seconds:
            return None
        pairs = zip(seconds[above], seconds[below], strict=True)
        rounds = [one / other for one, other in pairs]
        return [medians[above] / medians[below], min(rounds), max(rounds)]

    medians = {name: statistics.median(times) for name, times in seconds.items()}
    return {
        "case": title,
        "milliseconds": {name: 1e3 * time for name, time in medians.items()},
        "faster than jax": over("jax", "jaxinit"),
        "faster than torch": over("torch", "jaxinit"),
        "times the fill": over("jaxinit", "fill"),
    }


def timings(workers: dict[str, Worker], quick: bool) -> list[dict[str, Any]]:
    from benchmarks.worker import CASES

    rounds = 3 if quick else 7
    plan: list[tuple[str, tuple[int, int], str, bool]] = []
    for case in SAMPLING:
        sizes = ((4096, 4096),) if quick else SIZES
        plan += [(case, size, "float32", False) for size in sizes]
        if not quick or case == "he_normal":
            plan.append((case, (4096, 4096), "bfloat16", False))
        if not quick or case == "he_normal":
            plan.append((case, (4096, 4096), "float32", True))
    for size in ORTHOGONAL:
        plan.append(("orthogonal", size, "float32", False))
    rows = []
    for case, size, dtype, keep in plan:
        names = [*CASES[case], *([] if case == "orthogonal" else ["fill"])]
        present = [workers[name] for name in names if name in workers]
        seconds = in_turns(
            present,
            3 if case == "orthogonal" else rounds,
            do="time",
            draw=[case, size, dtype],
            seconds=0.5,
            keep=keep,
        )
        kept = ", all kept" if keep else ""
        rows.append(row(f"{case} {size[0]}x{size[1]} {dtype}{kept}", seconds))
        show(rows[-1])
    return rows


def others(workers: dict[str, Worker]) -> list[dict[str, Any]]:
    pair = [workers["jaxinit"], workers["jax"]]
    rows = [
        row(
            "he_normal()(key, (8, 8)) eagerly",
            in_turns(pair, 5, do="eager", outer=False),
        ),
        row("the same under an outer jit", in_turns(pair, 5, do="eager", outer=True)),
    ]
    for shape, count in (((64, 64), 1), ((3, 3, 64, 64), 1), ((64, 64), 75)):
        title = f"compile {count} he_normal of {shape} in one jit"
        draw = ["he_normal", shape, count]
        rows.append(row(title, in_turns(pair, 3, do="compile", draw=draw)))
    for each in rows:
        show(each)
    for case, size in (("he_normal", (4096, 4096)), ("orthogonal", (2048, 2048))):
        held = {
            w.competitor: w.ask(
                do="memory", competitor=w.competitor, case=case, shape=size
            )
            / 2**20
            for w in pair
        }
        title = f"temporary memory of {case} {size[0]}x{size[1]}, MiB"
        rows.append({"case": title, "MiB": held})
        print(f"{title:<52}" + "".join(f"  {n} {v:.1f}" for n, v in held.items()))
    return rows


def models(rounds: int) -> list[dict[str, Any]]:
    """Whole models in cold processes, which take turns."""
    from benchmarks.models import MODELS, measured

    rows = []
    for model, (*_, rivals) in MODELS.items():
        names = ["jaxinit", *rivals]
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        for _, name in itertools.product(range(rounds), names):
            runs[name].append(measured(name, model))
        figures = {
            name: {
                what: statistics.median(run[what] for run in each) for what in each[0]
            }
            for name, each in runs.items()
        }
        ours = figures["jaxinit"]
        print(f"{model}: {ours['parameters'] / 1e6:.0f}M parameters")
        for name, each in figures.items():
            print(
                f"    {name:<8} {each['seconds']:6.2f} s"
                f" ({each['seconds'] / ours['seconds']:.1f}), "
                f"memory {each['memory']:.2f} times the parameters, "
                f"again {each['again']:.2f} s, "
                f"the model's own code {each['own']:.2f} s",
                flush=True,
            )
        rows.append({"case": model, "models": figures})
    grown = growth(*(each["models"]["jaxinit"] for each in rows[:2]))
    figures = ", ".join(f"{part} {times:.2f}" for part, times in grown.items())
    print(f"a cold start of 48 blocks for 12, times as long: {figures}")
    rows.append({"case": "48 blocks for 12", "growth": grown})
    return rows


def growth(shallow: dict[str, float], deep: dict[str, float]) -> dict[str, float]:
    """How much longer the parts of a cold start take for a deeper model."""

    def beside(figures: dict[str, float], *parts: str) -> float:
        return figures["seconds"] - sum(figures[part] for part in parts)

    return {
        "beside the draw": beside(deep, "again") / beside(shallow, "again"),
        "the model's own code": deep["own"] / shallow["own"],
        "beside both": beside(deep, "again", "own") / beside(shallow, "again", "own"),
    }


def show(each: dict[str, Any]) -> None:
    times = "  ".join(f"{n} {t:.4g} ms" for n, t in each["milliseconds"].items())
    ratios = [
        "{:.2f} ({:.2f} to {:.2f}) ".format(*each[name]) + name
        for name in ("faster than jax", "faster than torch", "times the fill")
        if each[name] is not None
    ]
    print(f"{each['case']:<52}{'; '.join(ratios)}\n{'':<4}{times}", flush=True)


def machine() -> str:
    model = platform.processor() or platform.machine()
    cpus = Path("/proc/cpuinfo")
    if cpus.exists():
        lines = [x for x in cpus.read_text().splitlines() if x.startswith("model name")]
        model = (
            f"{len(lines)} cores of {lines[0].partition(': ')[2]}" if lines else model
        )
    names = [n for n in ("jax", "flax", "torch") if importlib.util.find_spec(n)]
    versions = [f"{name} {importlib.metadata.version(name)}" for name in names]
    return ", ".join([model, f"Python {platform.python_version()}", *versions])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="4096x4096 and few turns")
    parser.add_argument(
        "--only", choices=["arrays", "models", "reading"], help="one of the tables"
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    args = parser.parse_args()
    print(machine())
    rows: list[dict[str, Any]] = []
    if args.only in (None, "arrays"):
        rows += arrays(args.quick)
    if args.only in (None, "models"):
        rows += models(1 if args.quick else 3)
    if args.only in (None, "reading"):
        rows += reading(5 if args.quick else 15)
    if args.json:
        args.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=2))


def arrays(quick: bool) -> list[dict[str, Any]]:
    """Single arrays, and the compile times and memory of their programs."""
    names = ["jaxinit", "jax", "fill"]
    if importlib.util.find_spec("torch"):
        names.append("torch")
    workers = {name: Worker(name) for name in names}
    if "torch" in workers:
        threads = workers["torch"].ask(do="threads", competitor="torch")
        print(f"torch draws on {threads} threads")
    rows = timings(workers, quick) + others(workers)
    for worker in workers.values():
        worker.stop()
    return rows


if __name__ == "__main__":
    main()
