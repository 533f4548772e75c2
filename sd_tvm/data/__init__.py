"""Real images that ship inside packages: for the demo, benchmarks and tests."""
