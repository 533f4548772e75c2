"""Design-space sweeps: one compile, then the timing model alone on every configuration.

Importing this package does not load TVM; only :func:`sd_tvm.explore.programs.compile_programs` does.
"""

from __future__ import annotations

from sd_tvm.explore.files import exploration_to_json, write_exploration
from sd_tvm.explore.model import EXPLORE_SCHEMA_VERSION, Exploration, Point, Refusal
from sd_tvm.explore.space import Space
from sd_tvm.explore.sweep import explore

__all__ = [
    "EXPLORE_SCHEMA_VERSION",
    "Exploration",
    "Point",
    "Refusal",
    "Space",
    "exploration_to_json",
    "explore",
    "write_exploration",
]
