"""What the cases of ``make_operators.py`` share: their registry, random generators, two shapes of images."""

from __future__ import annotations

import zlib

import numpy as np
from tvm import relay

#: Name -> function of a random generator and variables, and the shapes (or kinds and shapes) of its inputs.
CASES = {}


def case(name, **inputs):
    """Register a function that gets variables and a random generator; inputs are shapes or arrays."""

    def register(function):
        CASES[name] = (function, inputs)
        return function

    return register


def rng(name):
    return np.random.RandomState(zlib.crc32(name.encode()))


def const(value, dtype="float32"):
    return relay.const(np.asarray(value, dtype=dtype))


X = (1, 4, 6, 5)
NHWC = (1, 6, 5, 4)


def simple(name, function, **inputs):
    CASES[name] = (lambda r, **v: function(*v.values()), inputs)
