"""Money moves in the order in which it was asked for, and an overdraft changes nothing.

    python examples/bank_account.py

A call is sent when it is made, not when it is awaited: the withdrawal below finds the
deposit made before it, whichever of the two is awaited first.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from perdure import DurableObject, durable


@durable.error
class InsufficientFunds(Exception):
    """Callers get this class itself, wherever the account lives."""


@durable.object
class BankAccount(DurableObject):
    def __init__(self, account_id: str) -> None:
        super().__init__(account_id)
        self.balance = Decimal(0)
        self.history: list[dict[str, Any]] = []

    async def deposit(self, amount: Decimal) -> Decimal:
        return self._book("deposit", amount)

    async def withdraw(self, amount: Decimal) -> Decimal:
        balance = self._book("withdrawal", -amount)
        if balance < 0:
            # The exception undoes what this call has changed, the history too.
            raise InsufficientFunds(f"{amount} asked, {balance + amount} there")
        return balance

    async def statement(self, last: int = 10) -> list[dict[str, Any]]:
        return self.history[-last:]

    def _book(self, what: str, amount: Decimal) -> Decimal:
        self.balance += amount
        self.history.append({"what": what, "amount": amount, "at": datetime.now(UTC)})
        return self.balance


async def main() -> None:
    account = await BankAccount.get_or_create("ada")

    deposit = account.deposit(Decimal("100.00"))
    withdrawal = account.withdraw(Decimal("30.50"))
    print("after the withdrawal:", await withdrawal)
    print("after the deposit:   ", await deposit)

    try:
        await account.withdraw(Decimal(1_000_000))
    except InsufficientFunds as error:
        print("refused:", error)
    print("balance:", account.balance)


if __name__ == "__main__":
    asyncio.run(main())
