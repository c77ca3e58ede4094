"""The examples as behaviours: each with a restart between any two calls."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from bank_account import BankAccount, InsufficientFunds
from cache import Cache
from cart import Line, Order, ShoppingCart
from chat_room import ChatRoom
from counter import Counter
from game import Game, Phase
from harness.behaviours import Restart, behaviour, raises
from orders import PaidOrder, Stock
from organisation import Employee, Organisation
from reminders import Inbox, Reminders
from session import UserSession
from stream_window import StreamWindow

from perdure import ctx, durable


@behaviour
async def a_counter_counts_on(restart: Restart) -> None:
    counter = await Counter.get_or_create("story")
    assert await counter.increment(5) == 5
    await restart()
    assert await counter.increment(5) == 10
    await restart()
    assert (await Counter.get_or_create("story")).value == 10


@behaviour
async def a_session_is_read_from_its_handle_after_a_restart(restart: Restart) -> None:
    session = await UserSession.get_or_create("story")
    created_at = session.created_at
    await session.visit("/home")
    await session.prefer(theme="dark", size=3)
    assert session.last_page == "/home"
    await restart()
    later = await UserSession.get_or_create("story")
    assert (later.page_views, later.last_page, later.created_at) == (1, "/home", created_at)
    assert later.preferences == {"theme": "dark", "size": 3}
    assert await later.visit("/products") == 2


@behaviour
async def money_moves_in_the_order_of_the_calls(restart: Restart) -> None:
    account = await BankAccount.get_or_create("story")
    deposit = account.deposit(Decimal("100.00"))
    withdrawal = account.withdraw(Decimal("30.50"))
    too_much = account.withdraw(Decimal(1_000))
    await restart()
    with raises(InsufficientFunds, "1000 asked, 69.50 there"):
        await too_much
    assert await withdrawal == Decimal("69.50")
    assert await deposit == Decimal("100.00")
    await restart()
    history = await account.statement()
    assert [(entry["what"], entry["amount"]) for entry in history] == [
        ("deposit", Decimal("100.00")),
        ("withdrawal", Decimal("-30.50")),
    ]
    assert all(entry["at"].tzinfo is not None for entry in history)


@behaviour
async def a_chat_room_keeps_its_sets_and_dates(restart: Restart) -> None:
    room = await ChatRoom.get_or_create("story")
    opened_at = room.opened_at
    assert await room.join("ada")
    with raises(PermissionError, "grace has not joined"):
        await room.say("grace", "let me in")
    await restart()
    assert not await room.join("ada")
    number = await room.say("ada", "hello")
    assert await room.like("ada", number) == 1
    await restart()
    assert await room.like("ada", number) == 1
    assert await room.like("grace", number) == 2
    assert room.likes == {1: {"ada", "grace"}}
    assert room.members == {"ada"}
    (message,) = await room.recent()
    assert (message["user"], message["text"], type(message["at"])) == ("ada", "hello", datetime)
    assert room.opened_at == opened_at


@behaviour
async def methods_of_a_game_call_each_other_in_one_turn(restart: Restart) -> None:
    game = await Game.get_or_create("story")
    assert await game.join("ada") is Phase.WAITING
    await restart()
    assert await game.join("grace") is Phase.PLAYING
    with raises(ValueError, "the game has begun"):
        await game.join("mary")
    await game.score("grace")
    assert await durable.call(game.leader) == "grace"
    await restart()
    assert await game.score("ada", 3) is Phase.OVER
    assert (game.winner, game.phase) == ("ada", Phase.OVER)
    await restart()
    with raises(ValueError, "nobody plays now"):
        await game.score("ada")
    assert (await Game.get_or_create("story")).points == {"ada": 3, "grace": 1}


@behaviour
async def organisations_and_employees_call_each_other(restart: Restart) -> None:
    acme = await Organisation.get_or_create("story")
    await acme.fund(100)
    ada = await acme.hire("story-ada", "engineer", 60)
    assert isinstance(ada, Employee)
    await restart()
    with raises(ValueError, "the budget has 40 left"):
        await acme.hire("story-grace", "admiral", 50)
    assert await ada.ask_for_a_raise(30)
    await restart()
    assert not await ada.ask_for_a_raise(30)
    assert ada.employer == acme
    await restart()
    assert await acme.payroll() == {"story-ada": ("engineer", 90)}
    assert acme.staff == {"story-ada": ada}


@behaviour
async def a_cart_is_checked_out_once(restart: Restart) -> None:
    cart = await ShoppingCart.get_or_create("story")
    await cart.add("sku-1", "teapot", Decimal("24.90"))
    await cart.add("sku-2", "cup", Decimal("4.50"), quantity=6)
    await restart()
    assert await durable.call(cart.total) == Decimal("51.90")
    assert cart.lines["sku-2"] == Line("cup", 6, Decimal("4.50"))
    click = durable.options(cart, key="click-1")
    first = await click.checkout()
    await restart()
    second = await click.checkout()
    assert first == second == Order(1, first.lines, Decimal("51.90"))
    with raises(ValueError, "empty"):
        await cart.checkout()
    await restart()
    assert (await ShoppingCart.get_or_create("story")).orders == [first]


@behaviour
async def a_cache_rebuilds_what_it_keeps_in_memory(restart: Restart) -> None:
    cache = await Cache.get_or_create("story")
    await cache.put("gone", 1, ttl_s=0.0)
    await cache.put("here", {"rate": 1.17})
    assert await cache.get("gone", "nothing") == "nothing"
    await restart()
    assert await cache.get("here") == {"rate": 1.17}
    await cache.put("other", 2)
    assert (cache.hits, cache.misses) == (1, 1)
    await restart()
    assert await cache.invalidate("he") == 1
    assert set((await Cache.get_or_create("story")).entries) == {"other"}


@behaviour
async def a_stream_window_keeps_every_answered_reading(restart: Restart) -> None:
    stream = await StreamWindow.get_or_create("story")
    start = datetime(2024, 2, 29, 12, 0, tzinfo=UTC)
    readings: list[Awaitable[Any]] = [
        stream.add(70.0 + number % 3, start + timedelta(seconds=number)) for number in range(100)
    ]
    assert not any(await asyncio.gather(*readings))
    await restart()
    assert await stream.add(500.0, start + timedelta(minutes=5))
    assert stream.window == deque([*(70.0 + n % 3 for n in range(51, 100)), 500.0], maxlen=50)
    assert stream.window.maxlen == 50
    await restart()
    assert [(m.minute, n) for m, n, _ in await stream.busiest_minutes()] == [
        (0, 60),
        (1, 40),
        (5, 1),
    ]
    assert stream.alerts == [(start + timedelta(minutes=5), 500.0)]
    assert stream.seen == 101


@behaviour
async def an_order_is_charged_and_shipped_once(restart: Restart) -> None:
    order = await PaidOrder.get_or_create("story")
    assert await order.add("story-teapot", 1, Decimal("24.90")) == Decimal("24.90")
    await restart()
    # A cluster that starts on a busy machine takes longer than calls wait by themselves.
    click = durable.options(order, key="click-1", timeout=None)
    first = click.process(ctx)
    await restart()
    assert (await first, await click.process(ctx)) == ("shipped", "shipped")
    await restart()
    later = await PaidOrder.get_or_create("story")
    assert (later.status, later.receipt) == ("shipped", "receipt story")
    assert (await Stock.get_or_create("story-teapot")).left == 999_999
    with raises(ValueError, "the order is shipped"):
        await later.add("story-teapot", 1, Decimal(1))


@behaviour
async def reminders_come_once_over_restarts(restart: Restart) -> None:
    inbox = await Inbox.get_or_create("story")
    reminders = await Reminders.get_or_create("story")
    await reminders.remind(ctx, "dentist", timedelta(days=200))
    await reminders.remind(ctx, "tea", timedelta(milliseconds=5))
    await durable.send(inbox, delay=0.005).deliver("a letter")
    await restart()
    messages: list[str] = []
    while len(messages) < 2:
        messages += await inbox.read()
        await asyncio.sleep(0.01)
    assert sorted(messages) == ["1. tea", "a letter"]
    await restart()
    assert await reminders.upcoming(ctx) == ["dentist"]
    assert await reminders.forget(ctx, "dentist")
    assert await inbox.read() == []
