"""The command line `fusebox`: packaging, the HTTP client, and running the whole platform."""

from deploy.options import DEFAULT_URL

__all__ = ["DEFAULT_URL"]
