"""Installing the suite: one set of objects with holes, printed as a Helm chart or filled in by `kaito install`."""
