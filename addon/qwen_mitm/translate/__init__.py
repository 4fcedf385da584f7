"""Responses ⇄ Chat Completions. Pure: no I/O, no clock, no randomness."""
