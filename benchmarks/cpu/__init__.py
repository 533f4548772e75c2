"""Speed on the CPU beside other libraries; writes ``docs/results/cpu.md`` and ``cpu.json``.

``make results-cpu``, or ``python -m benchmarks.cpu`` in the root. Peers come with ``sd-tvm[bench]``; one that
is not installed is named in the page. Random weights unless a row says otherwise; one thread.
"""
