"""A client for OCI registries: references, credentials, push, pull, layers. Knows nobody else in the house."""
