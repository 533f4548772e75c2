"""Small networks trained on Fashion-MNIST, retrained in SD form, and measured as the integers that run.

``python -m benchmarks.training train NAME``, ``... retrain NAME``, ``... table``: ``docs/training.md``.
"""
