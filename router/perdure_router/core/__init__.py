"""The rules of a router, as state machines without I/O."""
