"""The rules of routing. Pure: no I/O, no clock."""
