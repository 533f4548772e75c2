"""Trained networks that install from a package index: for the demo, benchmarks and tests."""
