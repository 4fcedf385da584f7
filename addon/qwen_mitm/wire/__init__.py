"""Bytes and typed models of the two wire formats. Pure: no I/O, no clock, no randomness."""
