"""`perdure check`: calls a cluster, breaks it, and decides from the answers whether it kept faith.

`history`, `linearizability`, `minimal`, `effects` and `verdict` are pure: answers in, judgement
out. `app` is what the nodes run, `callers`, `faults` and `run` are what happens to them.
"""
