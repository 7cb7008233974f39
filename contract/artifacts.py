"""Where an artifact lies in a store that gateways and workers share: one tar, named by its digest.

The same names hold in folders (`file://`), in buckets (`s3://`) and at a gateway (`http://`, below
`/v1/artifacts`). The digest is the SHA-256 of the tar.
"""

from __future__ import annotations

# the environment variable with the URL
ARTIFACTS = "FUSEBOX_ARTIFACTS"


def key_of(base: str, digest: str) -> str:
    """The full name of an artifact under a base, as paths and URLs are written."""
    return f"{base.rstrip('/')}/{digest}.tar"
