# SPDX-License-Identifier: Apache-2.0
"""Ratios measured side by side: `python -m benchmarks`."""
