"""The workspace controller: from one Workspace to nodes, a tuning Job and a server, and to words about all of them.

`observe` takes a frozen picture from the informers, `plan` decides (pure, one planner per condition), `render` makes
the objects, `act` writes them, `status` and `explain` say how it stands and why. `controller` wires it, `operator` is
the process. It meets the node provisioner only in Karpenter's objects.
"""
