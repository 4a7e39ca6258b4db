"""This machine as the cloud: each claim becomes a virtual node that the node agent of `kaito up` stands behind."""
