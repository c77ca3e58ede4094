"""A program whose workflow goes through a set, whose order is another one in each process.

`python set_order.py order | begin | look | end` prints JSON; the hash seed is the environment's.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from perdure import define_hook, get_run, resume_hook, start, step, workflow

FRUIT = {"apples", "pears", "plums", "nuts", "figs"}

picked: list[str] = []
anything = define_hook()


@step
async def pick(what: str) -> str:
    picked.append(what)
    return what


@workflow
async def goes_through_a_set() -> list[str]:
    got = [await pick(what) for what in FRUIT]
    await anything.create(token="enough")
    return got


async def begin() -> Any:
    run = await start(goes_through_a_set, id="r")
    while "enough" not in (await run.status()).hooks:
        await asyncio.sleep(0)
    return picked


async def look() -> Any:
    while (parked := (await get_run("r").status()).parked) is None:
        await asyncio.sleep(0)
    return {"parked": parked, "picked": picked}


async def end() -> Any:
    await resume_hook("enough", reply=False)
    return {"result": await get_run("r").result(), "picked": picked}


if __name__ == "__main__":
    part = sys.argv[1]
    made = [*FRUIT] if part == "order" else asyncio.run(globals()[part]())
    sys.stdout.write(json.dumps(made))
