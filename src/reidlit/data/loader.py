"""A loader whose epoch can be gone on with from its middle."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from torch.utils.data import DataLoader, Sampler

from reidlit.data.images import Images, Item
from reidlit.data.sample import Draw


class SkipFirst(Sampler[list[Draw]]):
    """A batch sampler without its first batches, the next time only.

    Args:
        batches: the batch sampler, with a length.
    """

    def __init__(self, batches: Any) -> None:
        self.batches = batches
        self.skip = 0

    @property
    def sampler(self) -> Any:
        """On this Lightning calls `set_epoch`."""
        return self.batches.sampler

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Draw]]:
        skip, self.skip = self.skip, 0
        return islice(iter(self.batches), skip, None)


class ResumableLoader(DataLoader[Item]):
    """Tells how many batches of the epoch it has given, and can leave out as many.

    Lightning puts `state_dict` into checkpoints and gives it back on resuming. A batch depends on its draws alone, so the
    batches that follow are those of an unbroken run.

    Args:
        images: what to load.
        batches: batch sampler with a length.
        options: those of `DataLoader`.
    """

    def __init__(self, images: Images, batches: Any, **options: Any) -> None:
        self.rest = SkipFirst(batches)
        self.given = 0
        super().__init__(images, batch_sampler=self.rest, **options)

    def __iter__(self) -> Any:
        """Count what is given; the first batches that were given before are left out."""
        self.given = self.rest.skip
        for batch in super().__iter__():
            self.given += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """How many batches of this epoch were given."""
        return {"batches": self.given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let the next epoch start after so many batches; after a whole one, with the first."""
        self.rest.skip = state["batches"] % len(self.rest)
