"""`perdure bench`: calls objects as fast as they answer, or at a rate, and shows what it cost.

`latency`, `pace`, `meter`, `figures`, `compare`, `axes`, `charts` and `report` are pure. `app` is
what the nodes run, `generator` is a process that calls, `run` starts all of it and listens.
"""
