"""Decomposition of trained weights into SD form: official algorithm, data-free fit, calibrated fit."""
