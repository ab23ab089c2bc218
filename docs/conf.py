# SPDX-License-Identifier: Apache-2.0
"""The site: `python -m sphinx -W --keep-going docs build/site`, with the extra `docs`.

Notebooks are shown with the outputs that they were committed with; nothing is executed.
What is made at the start of a build (copies of the notebooks, their thumbnails, the
pictures of the laws) lies in `docs/_made`, which git ignores.
"""

import base64
import inspect
import json
import os
import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
ROOT = DOCS.parent
MADE = DOCS / "_made"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

project = "jaxinit"
author = copyright = "The jaxinit authors"
version = release = PROJECT["version"]

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.linkcode",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
autodoc_typehints = "none"  # the docstrings say what the arguments are
autodoc_member_order = "bysource"
napoleon_use_rtype = False
napoleon_use_ivar = True

# Inventories are fetched from other sites, and a build must not depend on these.
if os.environ.get("JAXINIT_INTERSPHINX") or os.environ.get("READTHEDOCS"):
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "flax": ("https://flax.readthedocs.io/en/latest", None),
        "jax": ("https://docs.jax.dev/en/latest", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "optax": ("https://optax.readthedocs.io/en/latest", None),
        "python": ("https://docs.python.org/3", None),
    }

html_theme = "pydata_sphinx_theme"
html_title = "jaxinit"
html_theme_options = {
    "github_url": PROJECT["urls"]["Homepage"],
    "navbar_align": "left",
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
}


def linkcode_resolve(domain: str, info: dict[str, str]) -> str | None:
    """Where the source of a name is shown."""
    import importlib

    thing = importlib.import_module(info["module"])
    try:
        for part in info["fullname"].split("."):
            thing = getattr(thing, part)
        thing = inspect.unwrap(thing)
        path = Path(inspect.getsourcefile(thing) or "").relative_to(ROOT)
        lines, first = inspect.getsourcelines(thing)
    except (AttributeError, OSError, TypeError, ValueError):
        return None
    last = first + len(lines) - 1
    return f"{PROJECT['urls']['Homepage']}/blob/main/{path}#L{first}-L{last}"


def make_notebooks() -> None:
    """Copies of the notebooks, and the last picture of each as its thumbnail."""
    folder = MADE / "notebooks"
    folder.mkdir(parents=True)
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        shutil.copy(path, folder)
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        pictures = [
            output["data"]["image/png"]
            for cell in cells
            for output in cell.get("outputs", ())
            if "image/png" in output.get("data", {})
        ]
        if pictures:
            text = "".join(pictures[-1])
            (folder / f"{path.stem}.png").write_bytes(base64.b64decode(text))
    shutil.copy(ROOT / "notebooks" / "why.png", folder)


def make_laws() -> list[str]:
    """A picture of the law of each family that can be built without arguments."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    import jaxinit

    folder = MADE / "laws"
    folder.mkdir(parents=True)
    names = []
    for name in jaxinit.available():
        factory = getattr(jaxinit, name)
        required = [
            each
            for each in inspect.signature(factory).parameters.values()
            if each.default is each.empty
        ]
        if isinstance(factory, jaxinit.Initializer) or required:
            continue
        init = factory()
        try:
            known = init.states_law and init.random and init.law((64, 64)).density
        except ValueError:  # of another rank: an orthogonal window
            known = ""
        if not known:
            continue
        with jaxinit.plot.style():
            figure, axes = plt.subplots(figsize=(4, 2.2))
            jaxinit.plot.law(init, (64, 64), ax=axes)
            figure.savefig(folder / f"{name}.png", dpi=110, bbox_inches="tight")
            plt.close(figure)
        names.append(name)
    return names


def read_docstring(
    app: object, what: str, name: str, thing: object, options: object, lines: list[str]
) -> None:
    """Docstrings are plain text with code in backquotes: |w| and a * b are no markup.

    A family whose law can be drawn has its picture beneath.
    """
    for i, line in enumerate(lines):
        if line.lstrip().startswith((">>>", "...")):
            continue
        pieces = line.split("`")  # what is between two of them is code
        pieces[::2] = [re.sub(r"([*|])", r"\\\1", piece) for piece in pieces[::2]]
        lines[i] = re.sub(r"^(\s*)([A-Z]\. )", r"\1\\\2", "`".join(pieces))
    list_references(lines)
    short = name.removeprefix("jaxinit.")
    if short in LAWS:
        path = f"/_made/laws/{short}.png"
        lines += ["", f".. image:: {path}", f"   :alt: The law of {short}()", ""]


def list_references(lines: list[str]) -> None:
    """Make a list of references in which the further lines of each are indented."""
    if "References:" not in lines:
        return
    first = lines.index("References:") + 1
    told = [line for line in lines[first:] if line.strip()]
    if not any(line.startswith(" " * 8) for line in told):
        return
    for i, line in enumerate(lines[first:], first):
        deeper = line.startswith(" " * 8)
        text = line.strip()
        lines[i] = text and ("      " if deeper else "    * ") + text


def setup(app: Any) -> None:
    app.connect("autodoc-process-docstring", read_docstring, priority=100)


shutil.rmtree(MADE, ignore_errors=True)
make_notebooks()
LAWS = make_laws()
