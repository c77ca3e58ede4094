"""A chat room: sets stay sets, dates stay dates, and number keys stay numbers.

python examples/chat_room.py
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from perdure import DurableObject, durable

HISTORY_MESSAGES_MAX = 100


@durable.object
class ChatRoom(DurableObject):
    def __init__(self, room_id: str) -> None:
        super().__init__(room_id)
        self.members: set[str] = set()
        self.messages: list[dict[str, Any]] = []
        self.said = 0
        self.likes: dict[int, set[str]] = {}
        self.opened_at = datetime.now(UTC)

    async def join(self, user: str) -> bool:
        is_new = user not in self.members
        self.members.add(user)
        await self.save()
        return is_new

    async def leave(self, user: str) -> None:
        self.members.discard(user)
        await self.save()

    async def say(self, user: str, text: str) -> int:
        if user not in self.members:
            raise PermissionError(f"{user} has not joined the room {self.object_id}")
        self.said += 1
        self.messages.append(
            {"number": self.said, "user": user, "text": text, "at": datetime.now(UTC)}
        )
        del self.messages[:-HISTORY_MESSAGES_MAX]
        await self.save()
        return self.said

    async def like(self, user: str, number: int) -> int:
        self.likes.setdefault(number, set()).add(user)
        await self.save()
        return len(self.likes[number])

    @durable.shared
    async def recent(self, count: int = 10) -> list[dict[str, Any]]:
        """Shared methods only read, so that many of them may run at once."""
        return self.messages[-count:]


async def main() -> None:
    room = await ChatRoom.get_or_create("lobby")
    for user in ("ada", "grace"):
        await room.join(user)

    number = await room.say("ada", "Is anybody there?")
    await room.say("grace", "Since we last met, yes.")
    print("likes:", await room.like("grace", number))

    for message in await room.recent(4):
        print(f"{message['at']:%H:%M:%S}  {message['user']}: {message['text']}")
    print("members:", sorted(room.members), "since", room.opened_at.isoformat())


if __name__ == "__main__":
    asyncio.run(main())
