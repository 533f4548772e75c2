"""Float32 operators of transformers on the CPU, sixteen lanes at a time (``table``)."""
