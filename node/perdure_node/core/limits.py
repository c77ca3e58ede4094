"""Every queue and every table of a node has a bound, and all the bounds are here."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one node. Sizes are bytes, times say their unit."""

    mailbox_calls_max: int = 1_000
    """Calls waiting for one object. Beyond this they are refused, not queued."""

    waiting_calls_max: int = 100_000
    """Calls waiting in all mailboxes of one partition: 4 KiB each make 400 MB."""

    held_calls_max: int = 10_000
    """Calls of one partition that wait for the one before them. Beyond this they are refused
    at once, and sent again."""

    copies_max: int = 16
    """Copies of one open call that get an answer."""

    session_unconfirmed_max: int = 1_024
    """Calls of one session to one partition whose answers it has not confirmed."""

    session_outcome_bytes_max: int = 16 << 20
    """Bytes of outcomes kept for one session in one partition."""

    out_of_order_wait_ms: int = 50
    """How long a call waits for the one before it, then it is refused and sent again."""

    session_window_ms: int = 48 * 3_600_000
    """From the birth of a session: how long its window is kept. Clients send copies of a call
    for 24 h at most, so no copy can come after its window is gone."""

    session_ahead_ms: int = 3_600_000
    """How far the birth of a session may lie in the future: clocks differ."""

    key_retention_ms: int = 24 * 3_600_000
    """How long the outcome under an idempotency key is kept."""

    key_bytes_max: int = 256
    """Bytes of UTF-8 in an idempotency key."""

    chain_calls_max: int = 64
    """Calls inside one another."""

    nested_start_ms: int = 60_000
    """How long a call from inside of a method waits in its target's mailbox. If it has not
    started then, it is refused."""

    buffered_payloads_max: int = 1_000
    """Payloads that have come for the hooks of one run, and that it has not taken."""

    waiting_for_run_max: int = 10_000
    """Callers that wait for the end of one run, or for more of its streams."""

    run_grace_ms: int = 30_000
    """How long a run may clean up that was cancelled. Then it is ended."""

    run_retention_ms: int = 7 * 24 * 3_600_000
    """How long a run stays that has ended: its result, events and streams. Workflows may say
    otherwise. -1: for ever."""

    runs_in_memory_max: int = 10_000
    """Runs of one node whose code is kept where it waits. Others are replayed when they go on."""

    run_events_warn: int = 10_000
    """Events of one run at which a warning is logged: it should `continue_as_new`."""

    run_steps_max: int = 200_000
    """Steps of one run since its last `continue_as_new`."""

    probe_after_ms: int = 50
    """How long a call from inside of a method waits before its target asks along whether it waits
    for itself; then twice as long each time."""

    probe_pause_max_ms: int = 1_000
    """The longest such wait."""

    probe_calls_max: int = 256
    """Calls that are asked about at one time. Circles that are longer than this, or hidden behind
    so many calls, are not found: `nested_start_ms` ends them."""

    steps_max: int = 10_000
    """Steps of one call."""

    journal_bytes_max: int = 64 << 20
    """Results of all steps of one call."""

    result_bytes_max: int = 4 << 20
    """An encoded result. It has to fit into one message."""

    snapshot_attribute_bytes_max: int = 16 << 10
    """An attribute over this does not travel with answers."""

    snapshot_bytes_max: int = 64 << 10
    """Attributes beyond this sum do not travel with one answer."""

    marks_max: int = 1_000
    """Calls that changed nothing and wait for the next record to be noted in. At this number
    they get a record of their own."""

    retry_after_s: float = 0.05
    """What a refused caller is told to wait."""

    windows_idle_max: int = 10_000
    """Session windows of one partition kept in memory beside those in use."""

    dirty_windows_max: int = 1_000
    """Windows that have changed without any record. At this number they are written to the
    store by themselves."""

    undurable_bytes_max: int = 64 << 20
    """Bytes of commits on their way to the disk. Beyond this no further call starts."""

    unapplied_bytes_max: int = 64 << 20
    """Bytes of durable commits on their way to the stores. Beyond this no further call starts."""

    activations_max: int = 100_000
    """Objects in memory on one node."""

    activation_bytes_max: int = 1 << 30
    """Encoded bytes of the objects in memory on one node."""

    activation_idle_ms: int = 600_000
    """An object that nobody called for so long is passivated."""

    blamed_max: int = 3
    """Processes that may die while they run one call, or one timer's method, without a step
    recorded in between. Then it is given up."""

    timers_per_object_max: int = 10_000
    """Timers of one object, parked ones too."""

    timer_attempts_max: int = 100
    """Firings of one timer that fail in a row. Then it is parked: after some 8 hours."""

    method_retry_ms: int = 100
    """How long a method waits that has raised and is run again; twice as long each time."""

    method_retry_max_ms: int = 30_000

    timer_retry_ms: int = 1_000
    """How long a timer waits after its method has failed; twice as long each time."""

    timer_retry_max_ms: int = 300_000
    """The longest such wait."""

    timers_window_max: int = 10_000
    """Timers of one partition kept in memory beside those that its store does not have: the
    earliest ones."""
