"""Chains of calls: which call is inside of which, and how people read that."""

from __future__ import annotations

from collections.abc import Sequence

from perdure.bodies import Request

__all__ = ["chain_inside", "chain_texts", "link_of", "link_text"]


def link_of(request: Request) -> list[str]:
    """Return a call as a link of a chain: `[type, id, method]`."""
    return [request.type, request.id, request.method]


def chain_inside(request: Request) -> list[list[str]]:
    """Return the chain of what a call calls: the calls that it is inside of, and itself."""
    return [*request.chain, link_of(request)]


def link_text(link: Sequence[str]) -> str:
    """Return a link as errors name it: `Cart[u1].pay`; `Cart[u1]` if no method is called."""
    type, id, method = link
    return f"{type}[{id}].{method}" if method else f"{type}[{id}]"


def chain_texts(chain: Sequence[Sequence[str]]) -> list[str]:
    """Return the links of a chain as errors name them, outermost first."""
    return [link_text(link) for link in chain]
