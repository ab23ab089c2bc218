# SPDX-License-Identifier: Apache-2.0
"""`python -m jaxinit report`: the signal of a model in a file, printed or as a page."""

import argparse
import base64
import html
import importlib
import importlib.util
import io
import sys
from pathlib import Path
from typing import Any

from jaxinit.cli.show import Refusal

__all__ = ["page", "report"]

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .15rem .7rem; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; }
"""


def report(args: argparse.Namespace) -> None:
    """The signal of a model, layer by layer: `report module:function`."""
    from jaxinit import signal

    made = _call(args.target)
    made = made if isinstance(made, tuple) else (made,)
    try:
        found = signal.report(*made)
    except (TypeError, ValueError) as error:
        raise Refusal(str(error)) from error
    if args.html is None:
        print(found)
        return
    args.html.write_text(page(args.target, found), encoding="utf-8")
    print(f"wrote {args.html}", *found.flags or ["no flags"], sep="\n")


def _call(target: str) -> Any:
    """What a function of a module, or of a file, returns."""
    where, _, name = target.rpartition(":")
    if not where or not name:
        raise Refusal(f"name a function as module:function, got {target!r}")
    try:
        if where.endswith(".py"):
            spec = importlib.util.spec_from_file_location(Path(where).stem, where)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        else:
            sys.path.insert(0, "")
            module = importlib.import_module(where)
        function = getattr(module, name)
    except (ImportError, AttributeError, FileNotFoundError) as error:
        raise Refusal(f"{target}: {error}") from error
    if not callable(function):
        raise Refusal(f"{target} is no function, but {function!r}")
    return function()


def page(title: str, found: Any) -> str:
    """A report as a page that stands by itself, with its picture if it can be drawn."""
    head = f"<meta charset='utf-8'><title>{html.escape(title)}</title>"
    heading = f"<h1>The signal in {html.escape(title)}</h1>"
    table = found._repr_html_()
    return (
        f"<!doctype html><html><head>{head}<style>{STYLE}</style></head>"
        f"<body>{heading}{_picture(found)}{table}</body></html>\n"
    )


def _picture(found: Any) -> str:
    try:
        axes = found.plot()
    except ModuleNotFoundError:
        return "<p>The picture needs matplotlib: pip install 'jaxinit[plot]'.</p>"
    file = io.BytesIO()
    axes.figure.savefig(file, dpi=150)
    data = base64.b64encode(file.getvalue()).decode()
    return f"<p><img alt='rms by layer' src='data:image/png;base64,{data}'></p>"
