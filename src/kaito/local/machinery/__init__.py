"""The Kubernetes API machinery without any input or output: kinds, schemas, patches, field ownership, tables, OpenAPI.

The API server (`kaito.local.apiserver`) owns the socket and the store and calls this. Everything here is a function of
its arguments, so that it can be tested by laws. The only exception that leaves this package on bad input is
`StatusError`.
"""
