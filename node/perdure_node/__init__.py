"""A node: owns partitions, runs their objects and makes what they do durable."""
