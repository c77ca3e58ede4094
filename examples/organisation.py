"""Organisations and employees: objects that keep handles of objects, and call them.

    python examples/organisation.py

A handle in an object's state is a reference, whichever node the other object lives on.
"""

from __future__ import annotations

import asyncio
from typing import Any

from perdure import DurableObject, durable


@durable.object
class Employee(DurableObject):
    def __init__(self, employee_id: str) -> None:
        super().__init__(employee_id)
        self.employer: Organisation | None = None
        self.title = ""
        self.salary = 0

    async def start_at(self, employer: Organisation, title: str, salary: int) -> None:
        self.employer = employer
        self.title = title
        self.salary = salary
        await self.save()

    async def ask_for_a_raise(self, amount: int) -> bool:
        if self.employer is None:
            return False
        granted = await self.employer.grant(amount)
        if granted:
            self.salary += amount
            await self.save()
        return granted


@durable.object
class Organisation(DurableObject):
    def __init__(self, organisation_id: str) -> None:
        super().__init__(organisation_id)
        self.budget = 0
        self.staff: dict[str, Employee] = {}

    async def fund(self, amount: int) -> int:
        self.budget += amount
        await self.save()
        return self.budget

    async def hire(self, name: str, title: str, salary: int) -> Employee:
        if not await self.grant(salary):
            raise ValueError(f"the budget has {self.budget} left, {name} asks for {salary}")
        employee = await Employee.get_or_create(name)
        self.staff[name] = employee
        await self.save()
        await employee.start_at(durable.ref(Organisation, self.object_id), title, salary)
        return employee

    async def grant(self, amount: int) -> bool:
        if amount > self.budget:
            return False
        self.budget -= amount
        await self.save()
        return True

    async def payroll(self) -> dict[str, Any]:
        """Ask every employee at once: each call waits for another object."""
        await asyncio.gather(*(durable.refresh(person) for person in self.staff.values()))
        return {name: (person.title, person.salary) for name, person in self.staff.items()}


async def main() -> None:
    acme = await Organisation.get_or_create("acme")
    if not acme.staff:
        await acme.fund(300_000)
        await acme.hire("ada", "engineer", 120_000)
        await acme.hire("grace", "admiral", 130_000)

    ada = await Employee.get_or_create("ada")
    print("a raise?", await ada.ask_for_a_raise(20_000))
    print(await acme.payroll(), "left:", await acme.fund(0))


if __name__ == "__main__":
    asyncio.run(main())
