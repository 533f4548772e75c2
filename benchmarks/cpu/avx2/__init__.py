"""Peers on a processor that has AVX2 and nothing newer, on one that has more.

Copies of their libraries have every ``cpuid`` replaced by two bytes that no processor decodes; a preloaded
library answers the signal with the processor's own answer, less the features of :mod:`.bits`. For measuring
only.
"""
