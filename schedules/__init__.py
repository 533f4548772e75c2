"""Layers as TensorIR (``ops``) and their schedules for the CPU (``cpu``) and sd_accel (``accel``)."""
