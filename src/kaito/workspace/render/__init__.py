"""Plans made into Kubernetes objects: plain dicts, for server-side apply. No decisions here."""
