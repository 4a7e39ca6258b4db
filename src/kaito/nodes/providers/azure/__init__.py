"""AKS agent pools as instances: one pool of one machine for each claim, named as the claim.

`pool` renders and reads pools and `faults` sorts errors, both pure; `api` and `credentials` alone know the Azure SDK.
"""
