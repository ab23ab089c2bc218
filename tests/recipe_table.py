# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.recipe_table` writes docs/recipes.md from the recorded numbers."""

from pathlib import Path

from tests.rules.oracle import recorded
from tests.rules.oracle_cases import CASES, outcome

PAGE = Path(__file__).parents[1] / "docs" / "recipes.md"
SOURCES = {
    "torch": "PyTorch",
    "keras": "Keras",
    "olmo": "OLMo",
}
HEAD = """\
# Recipes and the code that they are named after

Each recipe was compared with what its reference itself draws: the reference's own
classes, small of size, with seeds enough that a standard deviation is known to 1 %.
`tests/data/recipes` has each parameter's mean, standard deviation and bounds, as
`python -m tests.record_recipes` recorded them, and the suite holds the recipes to them
within five standard errors, on models of Linen and NNX, with `layers=jaxinit.read(...)`
and, where names tell enough, without.

| recipe | reference | models | parameters | agree |
| --- | --- | --- | --- | --- |
"""
TAIL = """
Where the public codes differ, `vit`, `t5` and `efficientnet` take `code=`: the ViTs of
torchvision and timm draw query, key and value as one Xavier kernel, √2 smaller than
Google's; torchvision's EfficientNet ignores the groups of a depthwise kernel.
transformers gives LLaMA one normal, which is `mistral` here, and OLMo's code scales it
by the depth, which is `llama`.

No counterpart in Flax, and therefore in no recipe: PyTorch's `Bilinear`,
`EmbeddingBag`, the projection of an LSTM and the biases that attention adds to its
keys; Keras's `GroupQueryAttention`.

Recipes of papers without code to run are held to what the papers claim, on real models:
`rezero`, `layer_scale`, `small_init`, `depth_mup`, `spectral`, `mimetic_attention`,
`forget_gate`, `chrono`; so are `fixup`, `t_fixup`, `deepnorm` and `mup`, besides.

mup multiplies what its readout gives by base width / width; its kernel is compared with
that factor, which a recipe must draw. Its optimisers' rates are those of `mup_rates`,
seen so. torchscale's DeepNorm leaves PyTorch's own law to its layers where the paper
says Xavier's normal, and has 1.15 for 0.87 in the encoder of an encoder-decoder: that
is `deepnorm(code="torchscale")`.
"""


def table() -> str:
    """The page."""
    counts: dict[tuple[str, str], list[int]] = {}
    models: dict[tuple[str, str], dict[str, None]] = {}
    for k, case in enumerate(CASES):
        found, _ = outcome(k)
        place = case.recipe, case.library
        tally = counts.setdefault(place, [0, 0])
        tally[0] += len(found)
        tally[1] += sum(not each.wrong for each in found)
        models.setdefault(place, {})[case.reference] = None
    lines = []
    for recipe, library in sorted(counts):
        compared, agree = counts[recipe, library]
        versions, _ = recorded(library)
        first = next(iter(versions.values()))
        source = first if "/" in first else f"{SOURCES.get(library, library)} {first}"
        named = models[recipe, library]
        told = f"{len(named)} layers" if len(named) > 9 else ", ".join(named)
        lines.append(f"| `{recipe}` | {source} | {told} | {compared} | {agree} |\n")
    return HEAD + "".join(lines) + TAIL


if __name__ == "__main__":
    PAGE.write_text(table(), encoding="utf-8")
