"""Integer arithmetic of sd-tvm: fixed-point requantisation and the NumPy golden model."""
