"""Make ``small.params`` with ``relay.save_param_dict``; in an environment as of make_operators.py."""

import sys
from pathlib import Path

import numpy as np
import tvm
from tvm import relay

VALUES = {
    "fc.weight": np.arange(12, dtype="float32").reshape(3, 4) / 8,
    "scale": np.asarray(0.5, "float32"),
    "zero": np.array([-3, 7, 2**31 - 1], "int32"),
    "codes": np.array([[1, -128], [127, 0]], "int8"),
    "mask": np.array([True, False, True]),
}

if __name__ == "__main__":
    params = {name: tvm.nd.array(value) for name, value in VALUES.items()}
    Path(sys.argv[1]).write_bytes(relay.save_param_dict(params))
