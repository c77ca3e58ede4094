"""The node journal: one log on the node's own disk, shared by all its partitions."""
