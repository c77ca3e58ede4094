"""Objects whose methods leave effects everywhere: what crashes must neither lose nor double."""

from __future__ import annotations

from perdure import DurableContext, DurableObject, durable

Receipt = tuple[int, str, float, str]


@durable.object
class ErrandBook(DurableObject):
    """Notes what reaches it, by the way that it came."""

    def __init__(self, book_id: str) -> None:
        super().__init__(book_id)
        self.called: list[int] = []
        self.sent: list[int] = []
        self.late: list[int] = []

    async def note(self, number: int) -> int:
        self.called.append(number)
        return len(self.called)

    async def note_sent(self, number: int) -> None:
        self.sent.append(number)

    async def note_late(self, number: int) -> None:
        self.late.append(number)

    @durable.shared
    async def read(self) -> tuple[list[int], list[int], list[int]]:
        return self.called, self.sent, self.late


@durable.object
class Errands(DurableObject):
    """Runs errands, each with every kind of step."""

    def __init__(self, errands_id: str) -> None:
        super().__init__(errands_id)
        self.begun: list[int] = []
        self.half: list[int] = []
        self.done: list[int] = []
        self.rang: list[int] = []
        self.plain: list[int] = []
        self.book = durable.ref(ErrandBook, f"book of {errands_id}")

    async def add(self, number: int) -> int:
        self.plain.append(number)
        return len(self.plain)

    async def run(self, ctx: DurableContext, number: int) -> Receipt:
        self.begun.append(number)
        await self.save()
        chance = await ctx.run("chance", ctx.random)
        paid = await ctx.call("till", "charge", {"errand": f"{self.object_id}/{number}"})
        self.half.append(number)
        ctx.after(0.005, self.ring, number, name=f"ring {number}")
        durable.send(self.book).note_sent(number)
        durable.send(self.book, delay=0.01).note_late(number)
        await self.save()
        await self.book.note(number)
        await ctx.sleep(0.001)
        self.done.append(number)
        return number, ctx.now().isoformat(), chance, paid["receipt"]

    async def ring(self, ctx: DurableContext, number: int) -> None:
        if number % 4 == 0:
            await ctx.run("bell", list)
        self.rang.append(number)

    @durable.shared
    async def read(self) -> dict[str, list[int]]:
        return {
            "begun": self.begun,
            "half": self.half,
            "done": self.done,
            "rang": self.rang,
            "plain": self.plain,
        }
