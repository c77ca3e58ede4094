"""A user's session: read attributes from the handle, also after everything has restarted.

    python examples/session.py

`get_or_create` brings the stored state along, so `session.page_views` needs no call.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

from perdure import DurableObject, durable


@durable.object
class UserSession(DurableObject):
    def __init__(self, user_id: str) -> None:
        super().__init__(user_id)
        self.user_id = user_id
        # Run once, at creation: every later reader sees the same time.
        self.created_at = datetime.now()
        self.page_views = 0
        self.pages: list[str] = []
        self.preferences: dict[str, Any] = {}

    async def visit(self, page: str) -> int:
        self.page_views += 1
        self.pages.append(page)
        # An attribute that `__init__` does not know is kept like any other.
        self.last_page = page
        await self.save()
        return self.page_views

    async def prefer(self, **choices: Any) -> dict[str, Any]:
        self.preferences.update(choices)
        await self.save()
        return self.preferences


async def main() -> None:
    session = await UserSession.get_or_create("user_123")
    print(f"so far {session.page_views} pages since {session.created_at:%d %B %H:%M:%S}")

    await session.visit("/home")
    await session.visit("/products")
    await session.prefer(theme="dark")
    print(f"now {session.page_views}, the last one {session.last_page}, {session.preferences}")


if __name__ == "__main__":
    asyncio.run(main())
