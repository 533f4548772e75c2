"""Real networks compiled for the simulated accelerator; writes ``docs/results/accelerator.md``.

``make results``; or ``python -m accelerator`` in the folder ``benchmarks`` with the package installed; or
``python -m benchmarks.accelerator`` in the root of a tree that ``make dev`` prepared.
"""
