"""The model, simulated: it waits instead of computing, and its answer is the mean of the features."""

from collections.abc import Sequence


class SimulatedModel:
    """A model that takes `seconds` for every prediction, however many wait at the same time.

    >>> SimulatedModel(seconds=0.1).predict_blocking([1.0, 2.0, 6.0])  # a tenth of a second later
    3.0
    """

    def __init__(self, seconds: float) -> None:
        """Remember how long one prediction takes."""
        self.seconds = seconds

    def predict_blocking(self, features: Sequence[float]) -> float:
        """The mean of the features, after a wait that blocks this thread (`time.sleep`)."""
        raise NotImplementedError("1.3: SimulatedModel.predict_blocking")

    async def predict(self, features: Sequence[float]) -> float:
        """The mean of the features, after a wait in which the event loop runs other tasks (`asyncio.sleep`)."""
        raise NotImplementedError("1.3: SimulatedModel.predict")
