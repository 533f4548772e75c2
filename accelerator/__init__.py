"""The accelerator: instruction set, code generator, configurations, and the simulator's Python side."""
