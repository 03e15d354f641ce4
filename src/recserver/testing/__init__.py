"""For tests of recserver and its plug-ins: a clock and trainings that a test controls, and conformance suites.

Nothing here sleeps. A test advances the clock, ends trainings, and awaits events::

    clock, trainings = FakeClock(), ScriptedExecutor()
    async with RecServer(folder, settings, clock=clock, executor=trainings) as rec:
        ...                                     # create a model, a data chef and a task
        (await trainings.next()).finish()       # the first training completes
        await clock.advance(3600)               # and an hour later
        (await trainings.next()).fail("The source is unavailable.")

Plug-in authors inherit from a conformance suite: :class:`DataChefSuite` has the tests of every data chef,
:class:`AlgorithmSuite` those of every algorithm, built in or not. Nothing here imports pytest.
"""

from recserver.testing._algorithm_suite import AlgorithmSuite
from recserver.testing._chef_suite import DataChefSuite
from recserver.testing._fake_clock import FakeClock
from recserver.testing._scripted_executor import ScriptedExecutor, ScriptedTraining, few_interactions

__all__ = [
    "AlgorithmSuite",
    "DataChefSuite",
    "FakeClock",
    "ScriptedExecutor",
    "ScriptedTraining",
    "few_interactions",
]
