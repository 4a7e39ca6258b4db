"""The node provisioner: turns Karpenter's node objects (NodeClaim, Machine) into nodes of a cloud, or of this machine.

`claim` is the one internal model, `codecs` its three forms on the wire, `lifecycle` decides (pure, one sub-reconciler
per condition), `reconciler` observes and acts, `instances` knows what the cloud has, `providers` speak to it.
"""
