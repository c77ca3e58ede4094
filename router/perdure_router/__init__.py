"""A router: forwards each call to the node that owns its object."""
