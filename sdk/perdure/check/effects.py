"""Whether every effect that was acknowledged is there, once, and nothing else is.

What callers were told is compared with what the objects hold when everything has come to rest.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from perdure.check.history import Operation, Outcome

__all__ = ["Account", "appends", "keyed", "timers", "transfers"]


def appends(operations: Iterable[Operation], held: Mapping[str, Sequence[Any]]) -> list[str]:
    """Check lists: every acknowledged append is there once, and in the order of its caller.

    Args:
        operations: Those of kind `list`. An item is `(caller, number)`, where the numbers of one
            caller rise in the order in which it sent them.
        held: The items of each list at the end.

    Returns:
        A sentence for each thing that is wrong.
    """
    return _once(operations, "append", held, "appended") + [
        problem for object, items in held.items() for problem in _out_of_order(object, items)
    ]


def keyed(
    operations: Iterable[Operation],
    answers: Mapping[int, Sequence[Any]],
    held: Mapping[str, Sequence[Any]],
) -> list[str]:
    """Check calls that were sent several times with one key: applied once, answered alike.

    Args:
        operations: Those of kind `keyed`; the argument is the token that the object keeps.
        answers: All answers to an operation's copies, by its number.
        held: The tokens that each object holds at the end.
    """
    problems = _once(operations, "apply", held, "applied")
    for number, found in answers.items():
        if len({repr(answer) for answer in found}) > 1:
            problems.append(f"the copies of operation {number} got different answers: {found}")
    return problems


def timers(operations: Iterable[Operation], held: Mapping[str, Sequence[Any]]) -> list[str]:
    """Check timers: each that was set has fired once.

    Args:
        operations: Those of kind `timer`; the first argument is the timer's token.
        held: The tokens of the firings that each object has seen, when all are due.
    """
    return _once(operations, "arm", held, "fired")


@dataclass(frozen=True, slots=True)
class Account:
    """What an account holds at the end."""

    balance: int
    sent: Sequence[str] = field(default_factory=tuple[str, ...])
    """The transfers that it has paid."""
    received: Sequence[str] = field(default_factory=tuple[str, ...])


def transfers(
    operations: Iterable[Operation], accounts: Mapping[str, Account], opening: int
) -> list[str]:
    """Check calls between objects: both halves of a transfer have happened once, or neither.

    Args:
        operations: Those of kind `account`; arguments are the receiver, the amount and a token.
        accounts: All accounts, at rest.
        opening: The balance with which each began.
    """
    problems: list[str] = []
    asked = [item for item in operations if item.method == "transfer"]
    sent = {object: Counter(account.sent) for object, account in accounts.items()}
    received = {object: Counter(account.received) for object, account in accounts.items()}
    for item in asked:
        receiver, _, token = item.arguments
        paid = sent.get(item.object, Counter())[token]
        got = received.get(receiver, Counter())[token]
        if paid != got or paid > 1:
            problems.append(
                f"transfer {token} was paid {paid} times by {item.object} "
                f"and received {got} times by {receiver}"
            )
        elif item.outcome is Outcome.OK and paid == 0:
            problems.append(f"transfer {token} was acknowledged and has not happened")
        elif item.outcome is Outcome.FAILED and paid > 0:
            problems.append(f"transfer {token} was refused and has happened")
    known = {item.arguments[2] for item in asked}
    for object, tokens in [*sent.items(), *received.items()]:
        problems += [
            f"{object} has {token}, which nobody asked for" for token in tokens.keys() - known
        ]
    total, expected = sum(each.balance for each in accounts.values()), opening * len(accounts)
    if total != expected:
        problems.append(f"all accounts together have {total}, not {expected}")
    return problems


def _once(
    operations: Iterable[Operation], method: str, held: Mapping[str, Sequence[Any]], verb: str
) -> list[str]:
    """Compare what was asked for with what is there. The first argument tells effects apart."""
    problems: list[str] = []
    counts = {object: Counter(map(_plain, items)) for object, items in held.items()}
    asked: dict[str, set[Any]] = defaultdict(set)
    for item in operations:
        if item.method != method or item.object not in counts:
            continue
        effect = _plain(item.arguments[0])
        asked[item.object].add(effect)
        times = counts[item.object][effect]
        if times > 1:
            problems.append(f"{item.object}: {effect} was {verb} {times} times")
        elif item.outcome is Outcome.OK and times == 0:
            problems.append(f"{item.object}: {effect} was acknowledged and never {verb}")
        elif item.outcome is Outcome.FAILED and times > 0:
            problems.append(f"{item.object}: {effect} was refused and yet {verb}")
    for object, found in counts.items():
        problems += [
            f"{object}: {effect} was {verb} and nobody had asked for it"
            for effect in found.keys() - asked[object]
        ]
    return problems


def _out_of_order(object: str, items: Sequence[Any]) -> list[str]:
    problems: list[str] = []
    last: dict[Any, Any] = {}
    for caller, number in map(_plain, items):
        if caller in last and number < last[caller]:
            problems.append(
                f"{object}: caller {caller} sent {number} before {last[caller]}, "
                f"which comes first there"
            )
        last[caller] = number
    return problems


def _plain(item: Any) -> Any:
    return tuple(item) if isinstance(item, list) else item
