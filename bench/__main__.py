"""``python -m bench``: all benchmarks, or those named."""

import asyncio
import sys
from importlib import import_module

for name in sys.argv[1:] or ("scoring", "http", "training", "evaluation", "loading", "files", "sql", "rest"):
    asyncio.run(import_module(f"bench.{name}").main())
