"""`ctx`: what a method knows of its call, and what is left of that at top level."""

from __future__ import annotations

import logging
import pickle
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from harness.recording_turn import RecordingTurn

from perdure import DurableContext, ctx
from perdure.ids import ObjectKey


def context(call_id: str = "call 1", **options) -> DurableContext:
    return DurableContext(ObjectKey("Cart", "u1"), "pay", call_id, **options)


@pytest.fixture
def turn():
    with RecordingTurn(attempt=2, key="pay-789").running() as made:
        yield made


def test_every_attempt_of_a_call_draws_the_same():
    first, second = context(attempt=1), context(attempt=2)

    assert [first.random(), first.uuid(), first.random()] == [
        second.random(),
        second.uuid(),
        second.random(),
    ]


def test_another_call_draws_something_else():
    assert context("call 1").uuid() != context("call 2").uuid()
    assert context("call 1").random() != context("call 2").random()


def test_draws_are_of_the_kinds_that_they_say():
    made = context()

    assert isinstance(made.uuid(), UUID)
    assert made.uuid().version == 4
    assert 0 <= made.random() < 1
    assert made.now().tzinfo is UTC
    assert abs(made.now() - datetime.now(UTC)) < timedelta(minutes=1)


def test_the_idempotency_key_is_the_caller_s_or_else_the_call_id():
    assert context("call 1", key="pay-789").idempotency_key == "pay-789"
    assert context("call 1").idempotency_key == "call 1"


def test_the_logger_says_which_call_speaks(caplog):
    with caplog.at_level(logging.INFO):
        context().logger.info("paid")

    [record] = caplog.records
    assert record.name == "perdure.object.Cart"
    assert (record.durable_object, record.durable_method, record.call_id) == (
        "Cart[u1]",
        "pay",
        "call 1",
    )


def test_a_context_cannot_be_pickled():
    with pytest.raises(TypeError, match="belongs to one running call"):
        pickle.dumps(context())


def test_inside_a_method_ctx_is_the_method_s_context(turn):
    assert (ctx.call_id, ctx.attempt, ctx.idempotency_key) == ("call 7", 2, "pay-789")
    assert ctx.logger is turn.context.logger
    assert ctx.random() == context("call 7").random()
    assert isinstance(ctx.uuid(), UUID)
    assert ctx.now().tzinfo is UTC
    assert repr(ctx) == "<DurableContext of Cart[u1].pay>"


def test_at_top_level_ctx_has_time_and_chance():
    assert ctx.now().tzinfo is UTC
    assert ctx.uuid() != ctx.uuid()
    assert 0 <= ctx.random() < 1
    assert ctx.logger.logger.name == "perdure"
    assert repr(ctx) == "<ctx, outside of a method>"


@pytest.mark.parametrize("name", ["call_id", "attempt", "idempotency_key"])
def test_at_top_level_ctx_has_no_call(name):
    with pytest.raises(RuntimeError, match=f"ctx.{name} is there inside a method"):
        getattr(ctx, name)


def test_ctx_is_a_durable_context():
    assert isinstance(ctx, DurableContext)
