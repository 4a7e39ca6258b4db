"""The embedded API server: Kubernetes' REST verbs, watch, discovery, admission and pod streams over the store.

`server.ApiServer` is the way in. What a kind is and how it is patched, pruned and printed is in
`kaito.local.machinery`; what is kept is in `kaito.local.store`; this package is the protocol between them and the
socket.
"""
