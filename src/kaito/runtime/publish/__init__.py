"""Publishing: the adapter as an OCI image, or the results volume sealed."""
