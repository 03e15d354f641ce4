"""Hyperparameters for tests that need a model of many ratings, and not a good one."""

from __future__ import annotations

from typing import Any

QUICK_NMF: dict[str, Any] = {"n_components": 8, "max_iter": 10, "regularization": 0.09, "neighbors": 0}
"""Nothing of it is left to the data, which is what takes long."""
