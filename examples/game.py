"""A game for two: methods that call each other are ordinary Python, in one commit.

    python examples/game.py

`join` calls `self.start`, and `score` calls `self.finish`: no second turn, no deadlock,
and nobody can see the game half started.
"""

from __future__ import annotations

import asyncio
from enum import Enum

from perdure import DurableObject, durable


class Phase(Enum):
    WAITING = "waiting"
    PLAYING = "playing"
    OVER = "over"


@durable.object
class Game(DurableObject):
    players_needed = 2
    points_to_win = 3

    def __init__(self, game_id: str) -> None:
        super().__init__(game_id)
        self.phase = Phase.WAITING
        self.points: dict[str, int] = {}
        self.winner: str | None = None

    async def join(self, player: str) -> Phase:
        if self.phase is not Phase.WAITING:
            raise ValueError("the game has begun")
        self.points[player] = 0
        if len(self.points) == self.players_needed:
            await self.start()
        return self.phase

    async def start(self) -> None:
        self.phase = Phase.PLAYING
        await self.save()

    async def score(self, player: str, points: int = 1) -> Phase:
        if self.phase is not Phase.PLAYING:
            raise ValueError("nobody plays now")
        self.points[player] += points
        if self.points[player] >= self.points_to_win:
            await self.finish()
        return self.phase

    async def finish(self) -> None:
        self.phase = Phase.OVER
        self.winner = self.leader()
        await self.save()

    def leader(self) -> str:
        """A plain method is callable from outside too."""
        return max(self.points, key=self.points.__getitem__)


async def main() -> None:
    games = [game async for game in durable.list(Game)]
    game = await Game.get_or_create(f"game-{len(games) + 1}")
    print(game, await game.join("ada"), await game.join("grace"))

    await game.score("grace")
    # For a type checker a handle is the class itself: `durable.call` makes the plain
    # method's result awaitable for it. `await game.leader()` runs just as well.
    print("ahead:", await durable.call(game.leader))
    while game.phase is Phase.PLAYING:
        await game.score("ada")
    print("the winner is", game.winner)


if __name__ == "__main__":
    asyncio.run(main())
