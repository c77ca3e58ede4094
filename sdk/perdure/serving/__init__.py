"""The gRPC server that every node and every router is."""
