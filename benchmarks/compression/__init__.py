"""Accuracy against size, with plain integers as peers; writes ``docs/results/compression.*``.

``make results-compression IMAGES=FOLDER``, or ``python -m benchmarks.compression --images FOLDER`` in the
root. FOLDER holds ImageNet images, ``CLASS.jpg`` by class index. What was measured is kept in ``--out``,
row by row, so a run that was stopped goes on where it was.
"""
