"""The wire contract, generated from protos/."""
