"""A partition under random crashes, syncs, applies, trims and passivations: nothing is lost,
nothing happens twice."""

from __future__ import annotations

from harness.core import Core
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.frames import Kind
from perdure.ids import ObjectKey, new_session_id
from perdure_node.core.events import Saved
from perdure_node.core.limits import Limits

OBJECTS = [ObjectKey("Cart", id) for id in ("a", "b", "c")]

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("call"), st.integers(0, 2), st.integers(0, 1)),
        st.tuples(st.just("return"), st.integers(0, 3)),
        st.tuples(st.just("save"), st.integers(0, 3)),
        st.tuples(st.just("raise"), st.integers(0, 3)),
        st.tuples(st.sampled_from(["write", "sync", "apply", "trim", "passivate"])),
        st.tuples(st.just("crash"), st.booleans()),
        st.tuples(st.just("again"), st.integers(0, 20)),
    ),
    max_size=60,
)


class Clients:
    """Two sessions whose calls each add one to an object, and who insist on their answers."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.sessions = [new_session_id(core.wall_ms, bytes([n]) * 10) for n in (1, 2)]
        self.sequences = [0, 0]
        self.open: dict[tuple[int, int], ObjectKey] = {}
        """Calls without an answer, by session and sequence."""
        self.numbers: dict[int, tuple[int, int]] = {}
        self.added = dict.fromkeys(OBJECTS, 0)
        """What the objects must hold in the end."""
        self.failed: set[tuple[int, int]] = set()

    def call(self, target: ObjectKey, session: int) -> None:
        self.sequences[session] += 1
        name = (session, self.sequences[session])
        self.open[name] = target
        self.added[target] += 1
        self.send(name)

    def send(self, name: tuple[int, int]) -> None:
        session, sequence = name
        target = self.open[name]
        earlier = [n for s, n in self.open if s == session and n < sequence]
        same = [n for n in earlier if self.open[session, n] == target]
        watermark = min((n for s, n in self.open if s == session), default=sequence) - 1
        number = self.core.call(
            sequence,
            "add",
            session=self.sessions[session],
            previous=max(same, default=0),
            confirmed=[watermark],
            target=target,
        )
        self.numbers[number] = name

    def look(self) -> None:
        """Take the answers that have come. Each call is answered once, with the same result."""
        for number, code, payload in self.core.answers():
            name = self.numbers[number]
            if code == 0:
                self.open.pop(name, None)
            elif code == 1:
                if name in self.open:
                    self.added[self.open.pop(name)] -= 1
            else:
                assert payload == [], "out of order: it is sent again"

    def insist(self) -> None:
        """Send everything again until all is answered."""
        for _ in range(200):
            finish(self.core)
            self.core.sync()
            self.look()
            if not self.open:
                return
            for name in sorted(self.open, key=lambda n: n[1]):
                self.send(name)
            self.core.time_passes(60)
        raise AssertionError(f"never answered: {self.open}")


def value(core: Core, target: ObjectKey) -> int:
    image = core.image(target)
    assert image is not None
    return int(image["n"])


def finish(core: Core, limit: int = 100) -> None:
    """Let everything that runs return."""
    while core.running and limit:
        end(core, 0)
        limit -= 1


def end(core: Core, at: int) -> None:
    """Let a method return: it adds one to what the object had when the call began."""
    call = core.running[at]
    if call.progress is None:
        core.returned({"n": b"%d" % (value(core, call.key) + 1)}, at=at)
    else:
        # It has saved its one already.
        core.returned({}, at=at)


def save(core: Core, at: int) -> None:
    call = core.running[at]
    if call.progress is None:
        state = core.memory.state(call.key)
        assert state is not None
        assert state.image is not None
        start = (state.image, state.state_version)
        core.partition.journalled.saved(
            call, {"n": b"%d" % (value(core, call.key) + 1)}, start, 1, [Saved()]
        )
        core._work()


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_every_call_counts_once_whatever_is_lost_in_between(steps: list[tuple]) -> None:
    core = Core(Limits(windows_idle_max=0, activations_max=1))
    for sequence, target in enumerate(OBJECTS, 1):
        core.call(sequence, "", kind=Kind.GET_OR_CREATE, target=target)
        core.returned({"n": b"0"}, created=True)
    core.sync()
    core.answers()
    clients = Clients(core)

    for step, *args in steps:
        running = len(core.running)
        if step == "call":
            clients.call(OBJECTS[args[0]], args[1])
        elif step == "again":
            names = sorted(clients.open)
            if names:
                clients.send(names[args[0] % len(names)])
        elif step == "crash":
            core.crash(keep_written=args[0])
        elif step == "passivate":
            for state, memory in core.residents.surplus(core.now_ms):
                memory.passivate(state)
        elif step in ("write", "sync", "apply", "trim"):
            getattr(core, step)()
        elif running and step == "return":
            end(core, args[0] % running)
        elif running and step == "save":
            save(core, args[0] % running)
        elif running and step == "raise":
            at = args[0] % running
            if core.running[at].progress is None:
                core.returned({}, b"\x91\xa2no", code=1, at=at)
        clients.look()
    clients.insist()

    assert {target: value(core, target) for target in OBJECTS} == clients.added
    core.crash()
    finish(core)
    core.sync()
    core.apply()
    core.trim()
    core.crash()
    assert {target: value(core, target) for target in OBJECTS} == clients.added
