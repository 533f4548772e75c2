"""Speed on the CPU: contestants in turns, machine, roofs. What ``sd-tvm bench`` and ``benchmarks/cpu`` share.

Importing this package loads neither TVM nor any peer.
"""
