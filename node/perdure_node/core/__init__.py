"""The rules of a node, as state machines without I/O."""
