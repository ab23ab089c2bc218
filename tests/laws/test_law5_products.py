# SPDX-License-Identifier: Apache-2.0
"""Law 5 where matrices are multiplied: the same numbers everywhere, to rounding."""

import chex
import jax
import pytest

from tests.cases import ids
from tests.helpers import fresh
from tests.laws.test_law5_everywhere import PROGRAMS, three_ways

QUICK = True  # see conftest.py

PRODUCTS = [case for case in PROGRAMS if case.products]


@pytest.mark.parametrize("case", PRODUCTS, ids=ids)
def test_eagerly_under_jit_and_under_vmap(case, key):
    chex.assert_trees_all_close(*three_ways(case, key), rtol=1e-4, atol=1e-5)


def test_another_key_is_no_rounding(key):
    one, other = (PRODUCTS[0].init(k, (6, 4)) for k in jax.random.split(fresh(key)))
    with pytest.raises(AssertionError):
        chex.assert_trees_all_close(one, other, rtol=1e-4, atol=1e-5)
