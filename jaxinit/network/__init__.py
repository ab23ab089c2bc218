# SPDX-License-Identifier: Apache-2.0
"""A traced function as data: its equations, and what each parameter does in them."""

from jaxinit.network import moves, nodes, traces, views
from jaxinit.network.biases import biased
from jaxinit.network.equality import SMALL, alike, keeps_objects, of_jaxpr, signature
from jaxinit.network.loops import scan_counts
from jaxinit.network.network import Network
from jaxinit.network.parameter import After, Branch, Parameter
from jaxinit.network.parameters import parameters
from jaxinit.network.passes import Pass, pass_of
from jaxinit.network.paths import Graph
from jaxinit.network.reader import CALLS, Reader
from jaxinit.network.reading import read
from jaxinit.network.record import Loop
from jaxinit.network.traces import body_of, close

__all__ = [
    "CALLS",
    "SMALL",
    "After",
    "Branch",
    "Graph",
    "Loop",
    "Network",
    "Parameter",
    "Pass",
    "Reader",
    "alike",
    "biased",
    "body_of",
    "close",
    "keeps_objects",
    "moves",
    "nodes",
    "of_jaxpr",
    "parameters",
    "pass_of",
    "read",
    "scan_counts",
    "signature",
    "traces",
    "views",
]
