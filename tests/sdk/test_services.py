from __future__ import annotations

import datetime as dt
import functools
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perdure import ServiceNotFound, durable, services
from perdure.service_settings import ServiceSettings


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "_services", {})


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[types.ModuleType]:
    """Another file, as far as classes and functions say."""
    module = types.ModuleType("services_elsewhere")
    module.__file__ = str(tmp_path / "elsewhere.py")
    sys.modules[module.__name__] = module
    yield module
    del sys.modules[module.__name__]


def called(service: str, method: str, *args: Any) -> Any:
    return services.find(service, method).bind()(*args)


def moved(target: Any, module: types.ModuleType) -> Any:
    target.__module__ = module.__name__
    return target


def test_the_public_methods_of_a_class_are_those_of_its_service() -> None:
    class Base:
        def refund(self, payload: Any) -> Any:
            return "refunded", payload

    @durable.service("payment_service")
    class Payments(Base):
        rate = 3

        async def charge(self, payload: Any) -> Any: ...

        @staticmethod
        def limits() -> int:
            return 100

        @classmethod
        def name(cls) -> str:
            return cls.__name__

        def _secret(self) -> None: ...

    assert called("payment_service", "refund", 5) == ("refunded", 5)
    assert called("payment_service", "limits") == 100
    assert called("payment_service", "name") == "Payments"
    assert services.find("payment_service", "charge").is_async
    assert not services.find("payment_service", "refund").is_async
    for name in ("_secret", "rate", "__init__", "nothing"):
        with pytest.raises(ServiceNotFound):
            services.find("payment_service", name)


def test_a_class_is_made_once_and_at_its_first_call() -> None:
    made = []

    @durable.service("counting")
    class Counting:
        def __init__(self) -> None:
            made.append(self)

        def me(self) -> Counting:
            return self

    found = services.find("counting", "me")
    assert made == []

    assert called("counting", "me") is called("counting", "me") is found.bind()()
    assert len(made) == 1


def test_a_class_that_could_not_be_made_is_made_by_the_next_call() -> None:
    failures = [OSError("no network yet")]

    @durable.service("late")
    class Late:
        def __init__(self) -> None:
            if failures:
                raise failures.pop()

        def ping(self) -> str:
            return "here"

    with pytest.raises(OSError, match="no network yet"):
        called("late", "ping")

    assert called("late", "ping") == "here"


def test_functions_share_a_service_each_as_the_method_of_its_own_name() -> None:
    @durable.service("mail")
    async def send(payload: Any) -> None: ...

    @durable.service("mail")
    def check(payload: Any) -> Any:
        return payload

    assert services.find("mail", "send").is_async
    assert called("mail", "check", "a@b") == "a@b"
    assert check("still a function") == "still a function"


def test_a_decorated_function_keeps_the_name_and_the_kind_it_has() -> None:
    def noted(function: Any) -> Any:
        @functools.wraps(function)
        async def wrapper(*args: Any) -> Any:
            return await function(*args)

        return wrapper

    @durable.service("mail")
    @noted
    async def deliver(payload: Any) -> None: ...

    assert services.find("mail", "deliver").is_async


def test_what_is_registered_without_a_decorator_is_found_too() -> None:
    def convert(payload: Any) -> Any:
        return payload * 2

    services.register("exchange", convert)

    assert called("exchange", "convert", 4) == 8


def test_the_same_file_may_define_a_service_again() -> None:
    for number in (1, 2):

        @durable.service("again")
        class Again:
            held = number

            def version(self) -> int:
                return self.held

        @durable.service("functions")
        def version(held: int = number) -> int:
            return held

    assert called("again", "version") == 2
    assert called("functions", "version") == 2


def test_a_function_and_a_class_may_share_a_service_and_the_later_has_the_name() -> None:
    @durable.service("both")
    def one() -> str:
        return "function"

    @durable.service("both")
    class Both:
        def one(self) -> str:
            return "class"

        def two(self) -> str:
            return "class"

    assert called("both", "one") == "class"

    @durable.service("both")
    def two() -> str:
        return "function"

    assert called("both", "two") == "function"


def test_another_file_cannot_define_the_same_service_and_the_error_names_both(
    elsewhere: types.ModuleType,
) -> None:
    def make() -> type:
        class Payments:
            def charge(self, payload: Any) -> None: ...

        return Payments

    def charge(payload: Any) -> None: ...

    services.register("pay", make())
    services.register("pay_by_function", charge)
    both = rf"{__file__}.*{elsewhere.__file__}"

    with pytest.raises(TypeError, match=rf"two services are named 'pay': .*{both}"):
        services.register("pay", moved(make(), elsewhere))
    with pytest.raises(TypeError, match=rf"two methods are named pay_by_function.charge: .*{both}"):
        services.register("pay_by_function", moved(make(), elsewhere))
    moved_charge = moved(types.FunctionType(charge.__code__, {}), elsewhere)
    for name in ("pay", "pay_by_function"):
        with pytest.raises(TypeError, match=rf"two methods are named {name}.charge: .*{both}"):
            services.register(name, moved_charge)


def test_another_file_may_add_functions_to_a_service(elsewhere: types.ModuleType) -> None:
    def first() -> int:
        return 1

    def second() -> int:
        return 2

    services.register("shared", first)
    services.register("shared", moved(second, elsewhere))

    assert called("shared", "first") + called("shared", "second") == 3


def test_a_service_that_is_not_there_is_named_with_what_may_be_meant() -> None:
    @durable.service("payment_service")
    class Payments:
        def charge(self) -> None: ...

    with pytest.raises(ServiceNotFound, match="did you mean 'payment_service'"):
        services.find("payment_servce", "charge")
    with pytest.raises(ServiceNotFound, match="did you mean 'billing'"):
        services.find("biling", "charge", ["billing"])
    with pytest.raises(ServiceNotFound, match=r"no service payment_service\.chrge.*mean 'charge'"):
        services.find("payment_service", "chrge")


class _NeedsArguments:
    def __init__(self, url: str) -> None: ...

    def charge(self) -> None: ...


class _Nothing:
    rate = 3


class _Yields:
    def charge(self) -> Iterator[int]:
        yield 1


async def _asynchronous_numbers() -> Any:
    yield 1


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        (_NeedsArguments, "made without arguments: _NeedsArguments: missing .* 'url'"),
        (_Nothing, "has no public method"),
        (_Yields, r"_Yields\.charge is a generator"),
        (_asynchronous_numbers, "_asynchronous_numbers is a generator"),
        (functools.partial(print), "a class or a function, not partial"),
        (None, "a class or a function, not NoneType"),
    ],
)
def test_what_cannot_be_a_service_is_refused_when_it_is_decorated(
    target: Any, problem: str
) -> None:
    with pytest.raises(TypeError, match=problem):
        durable.service("wrong")(target)


def test_a_service_needs_a_name() -> None:
    with pytest.raises(TypeError, match="takes the name of the service"):
        durable.service(_Nothing)  # type: ignore[arg-type]
    for name in ("", "two words", "a=b", "x" * 129, "\n"):
        with pytest.raises(ValueError, match="name of a service"):
            durable.service(name)


def test_retry_says_when() -> None:
    assert durable.Retry().after_s is None
    assert durable.Retry(2.5).after_s == 2.5
    assert durable.Retry(dt.timedelta(minutes=1)).after_s == 60
    assert str(durable.Retry(reason="the bank is closed")) == "the bank is closed"
    for after in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="not negative"):
            durable.Retry(after)


def test_settings_that_nobody_gave_are_these() -> None:
    assert ServiceSettings() == ServiceSettings(None, 30.0, 5, 0.1, 5.0, 100)
