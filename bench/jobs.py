"""What the load generator is told to do and what it reports, one JSON line each."""

from typing import Literal

from pydantic import BaseModel, TypeAdapter

from bench.workloads import Api


class Route(BaseModel):
    """The way in: straight, or by CONNECT through a proxy; TLS when `tls_name` is given."""

    host: str
    port: int
    path: str
    authority: str
    api: Api
    bearer: str
    connect: bool = False
    tls_name: str | None = None
    ca: str | None = None


class Series(BaseModel):
    """Requests one after the other on each of some warm connections, or each on one of its own."""

    kind: Literal["series"] = "series"
    route: Route
    model: str
    requests: int
    connections: int = 1
    warmup: int = 3
    fresh: bool = False
    """A new connection for each request; times begin when it is opened."""
    pid: int | None = None


class SeriesResult(BaseModel):
    first_event_ms: float
    """Median over the requests."""
    whole_ms: float
    """Median over the requests."""
    wall_ms: float
    """Of the whole series."""
    cpu_us: float | None
    """Of the process under test, for the whole series; None when there is none."""


class Paced(BaseModel):
    """Streams that run side by side; CPU is taken in a window in which all of them run."""

    kind: Literal["paced"] = "paced"
    route: Route
    model: str
    streams: int
    window: float
    """Seconds; it begins a little after the last stream's first event."""
    pid: int


class PacedResult(BaseModel):
    cpu_us_per_event: float


class Failed(BaseModel):
    error: str


type Job = Series | Paced
JOB: TypeAdapter[Job] = TypeAdapter(Job)
