"""Numbers about turns: Prometheus metrics, OpenTelemetry spans, the status page and its history.

All of it is made of one record per turn (reports.TurnEnded), when the turn is over. Nothing here is
called for a chunk of an answer.
"""
