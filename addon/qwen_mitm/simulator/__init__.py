"""A Qwen that runs here: it keeps to the protocol, and breaks it on demand."""

from __future__ import annotations

from .journal import ReceivedRequest
from .process import SimulatorProcess
from .script import Line
from .server import Simulator

__all__ = ["Line", "ReceivedRequest", "Simulator", "SimulatorProcess"]
