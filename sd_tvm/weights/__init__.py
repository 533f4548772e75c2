"""Weights in SD form: geometry, alphabets, containers and their packed layout (TVM-free)."""
