"""The kinds that the suite reads and writes, as msgspec Structs: pure data, with their rules.

`meta` holds what all kinds share, `workspace` the kaito.sh kinds, `karpenter` the node objects, `core` narrow
views of Kubernetes' own kinds (only the fields that somebody here reads), `conditions` how conditions are set.

Wire Structs keep the JSON's camelCase. A narrow Struct drops fields that it does not name, so it is for reading
only: objects are written as plain dicts by server-side apply, never by replacing what was read.
"""
