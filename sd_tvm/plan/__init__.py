"""Plans: a compiled model as a straight list of calls.

A plan needs no compiler and no virtual machine where it runs: NumPy, ``apache-tvm-ffi`` and the simulator's
library are enough. :mod:`.build` makes one from a Relax module, :mod:`.model` is its file, :mod:`.run` runs
it, and :mod:`.serve` makes one for another process, whose TVM is another (:mod:`sd_tvm.relay_passes.relay`).
Importing this package loads nothing of TVM.
"""
