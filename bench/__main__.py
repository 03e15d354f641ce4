"""``python -m bench``: all benchmarks, or those named."""

import asyncio
import sys
from importlib import import_module

ALL = ("scoring", "serving", "processes", "pipeline", "evaluation", "loading", "files", "sql", "rest")
ALL += ("training", "objective", "warm", "cost", "export", "responses")

for name in sys.argv[1:] or ALL:
    asyncio.run(import_module(f"bench.{name}").main())
