"""Access policy for a Tiled server that a facility runs; named in its configuration."""

from typing import Any

from tiled.access_control.access_policies import ALL_ACCESS, NO_ACCESS
from tiled.access_control.protocols import AccessPolicy, normalize_access_tags


class SignedIn(AccessPolicy):
    """Whoever has signed in, or has a key, may do what the account or the key allows; nobody else sees anything.

    Without an access policy Tiled checks log-in and keys route by route, and its Zarr routes do not: runs and
    their metadata would be there for everybody.
    """

    async def init_node(
        self, principal: Any, authn_access_tags: Any, authn_scopes: Any, access_tags: Any = None
    ) -> tuple[bool, Any]:
        """Leave the access tags of a new node as they are."""
        return False, access_tags or normalize_access_tags()

    async def allowed_scopes(
        self, node: Any, principal: Any, authn_access_tags: Any, authn_scopes: Any
    ) -> Any:
        """Return what the account or the key allows; nothing without one."""
        return authn_scopes

    async def filters(
        self, node: Any, principal: Any, authn_access_tags: Any, authn_scopes: Any, scopes: Any
    ) -> Any:
        """Return everything to whom the scopes are allowed, and nothing to anybody else."""
        return ALL_ACCESS if set(scopes) <= set(authn_scopes) else NO_ACCESS
