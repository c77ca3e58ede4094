"""Power cuts: nothing that was told is lost, and an honest cut is never called damage."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
from harness.journals import SMALL, JournalRun
from harness.power import PowerCut, PowerSupply

PARTITIONS = range(4)


class Client:
    """Appends to all partitions, and remembers what it was told."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.appended: dict[int, list[bytes]] = {p: [] for p in PARTITIONS}
        self.told = dict.fromkeys(PARTITIONS, 0)
        self.stored = dict.fromkeys(PARTITIONS, 0)
        """What each partition's store holds durably."""

    def work(self, run: JournalRun, groups: int) -> None:
        for _ in range(groups):
            for _ in range(self._rng.randint(1, 6)):
                self._append(run, self._rng.choice(PARTITIONS))
            run.commit()
            if run.fatal:
                return
            for partition in PARTITIONS:
                log = run.log(partition, self.stored[partition])
                self.told[partition] = log.durable
                if self._rng.random() < 0.1:
                    self.stored[partition] = log.durable
                    log.trim(log.durable)

    def _append(self, run: JournalRun, partition: int) -> None:
        body = self._rng.randbytes(self._rng.choice([0, 20, 300, 5_000]))
        sequence = run.log(partition, self.stored[partition]).append(body)
        self.appended[partition].append(body)
        assert len(self.appended[partition]) == sequence

    def check(self, run: JournalRun) -> None:
        """Compare what is there after a cut, and go on from that."""
        assert run.journal.damaged == {}
        for partition in PARTITIONS:
            stored = self.stored[partition]
            log = run.log(partition, stored)
            appended = self.appended[partition]
            assert log.last >= self.told[partition]
            assert [r.body for r in log.read(stored)] == appended[stored : log.last]
            del appended[log.last :]


def recover(directory: Path, rng: random.Random, tries: int) -> tuple[JournalRun, PowerSupply]:
    """Open a journal, with the power going away in the middle a few times."""
    while True:
        syncs = rng.randint(0, 6) if tries else rng.randint(20, 120)
        power = PowerSupply(directory, rng, syncs)
        try:
            return JournalRun(directory, replace(SMALL, sync=power.sync)), power
        except PowerCut:
            directory = power.restore(directory.with_name(f"{directory.name}.{tries}"))
            tries = max(0, tries - 1)


@pytest.mark.parametrize("seed", range(25))
def test_nothing_that_was_told_is_lost_by_power_cuts(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    client = Client(rng)
    directory = tmp_path / "journal"
    directory.mkdir()
    for round in range(4):
        run, power = recover(directory, rng, tries=rng.choice([0, 0, 2]))
        client.check(run)
        client.work(run, groups=rng.randint(5, 60))
        power.cut_now()
        run.die()
        assert {type(error) for error in run.fatal} <= {PowerCut}
        directory = power.restore(tmp_path / f"journal-{round}")

    with JournalRun(directory) as run:
        client.check(run)
