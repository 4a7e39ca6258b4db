"""The objects of an installation, with holes; `everything.documents` has them all."""
