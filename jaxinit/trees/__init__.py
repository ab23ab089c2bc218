# SPDX-License-Identifier: Apache-2.0
"""Parameters by rules over their paths: drawn, described, checked."""

from jaxinit.trees.measures import moments, z_scores
from jaxinit.trees.parts import Part
from jaxinit.trees.patterns import (
    Line,
    Param,
    Pattern,
    PerParam,
    Possible,
    Rest,
    Rule,
    Rules,
    Unplaced,
    matches,
    per_param,
    read_rules,
    words,
)
from jaxinit.trees.table import check_tree, describe_tree
from jaxinit.trees.tree import init_tree, leaves_of, plan_of

__all__ = [
    "Line",
    "Param",
    "Part",
    "Pattern",
    "PerParam",
    "Possible",
    "Rest",
    "Rule",
    "Rules",
    "Unplaced",
    "check_tree",
    "describe_tree",
    "init_tree",
    "leaves_of",
    "matches",
    "moments",
    "per_param",
    "plan_of",
    "read_rules",
    "words",
    "z_scores",
]
