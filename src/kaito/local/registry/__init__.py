"""The OCI registry that comes with one machine, and the folder of data sets that it serves beside."""

from kaito.local.registry.credentials import RegistryCredentials, make_credentials
from kaito.local.registry.server import Registry

__all__ = ["Registry", "RegistryCredentials", "make_credentials"]
