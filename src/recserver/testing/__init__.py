"""For tests of recserver and of its plug-ins: time that stands still, and trainings that end when the test says.

Nothing here sleeps. A test moves the clock by hand, ends trainings by hand, and awaits events::

    clock, trainings = FakeClock(), ScriptedExecutor()
    async with RecServer(folder, settings, clock=clock, executor=trainings) as rec:
        ...                                     # create a model, a data chef and a task
        (await trainings.next()).finish()       # the first training ends well
        await clock.advance(3600)               # and an hour later
        (await trainings.next()).fail("The source is away.")

A plug-in author inherits a conformance suite: :class:`DataChefSuite` holds the tests of every data chef,
:class:`AlgorithmSuite` those of every algorithm, ours and a stranger's. Nothing of this imports pytest.
"""

from recserver.testing.algorithm_suite import AlgorithmSuite
from recserver.testing.chef_suite import DataChefSuite
from recserver.testing.fake_clock import FakeClock
from recserver.testing.scripted_executor import ScriptedExecutor, ScriptedTraining, few_interactions

__all__ = [
    "AlgorithmSuite",
    "DataChefSuite",
    "FakeClock",
    "ScriptedExecutor",
    "ScriptedTraining",
    "few_interactions",
]
