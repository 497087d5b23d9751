"""The content policy that every answer carries, with what the owner adds to it."""

from collections.abc import Mapping

POLICY: Mapping[str, tuple[str, ...]] = {
    "default-src": ("'none'",),
    "script-src": ("'self'",),
    "style-src": ("'self'",),
    "img-src": ("'self'",),
    "connect-src": ("'self'",),
    "base-uri": ("'none'",),
    "form-action": ("'self'",),
    "frame-ancestors": ("'none'",),
    # The browser itself sees to it that no text ever becomes markup.
    "require-trusted-types-for": ("'script'",),
    "trusted-types": ("'none'",),
}
NOTHING = "'none'"


def policy_with(additions: Mapping[str, tuple[str, ...]]) -> str:
    """Return the policy as a header has it; a directive that is given no sources is taken away."""
    merged = dict(POLICY)
    for directive, sources in additions.items():
        before = tuple(source for source in merged.get(directive, ()) if source != NOTHING)
        merged[directive] = (*before, *sources) if sources else ()
    return "; ".join(f"{name} {' '.join(sources)}" for name, sources in merged.items() if sources)
