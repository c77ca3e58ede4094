"""Agents: a language model and tools, each request and each tool call of which is a step.

`import perdure` imports this package, so nothing here that is imported by itself needs the extra
`perdure[agents]`: what does is imported when the first `Agent` is made.
"""

from perdure.agents.agent import Agent, Writable
from perdure.agents.tools import tool

__all__ = ["Agent", "Writable", "tool"]
