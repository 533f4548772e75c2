"""The accelerator: instruction set, code generator, configurations, and the simulator's Python side."""

#: Configuration that is meant where none is named. Here, so that ``import tvm`` need not load pydantic.
DEFAULT_CONFIG = "smartexchange-28nm-parallel"
