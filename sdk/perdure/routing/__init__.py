"""The way of calls to the nodes that own their objects: of a router, and of clients themselves."""
