"""Data loader that can resume in the middle of an epoch."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from torch.utils.data import DataLoader, Sampler

from reidlit.data.images import Images, Item
from reidlit.data.sample import Draw


class SkipFirst(Sampler[list[Draw]]):
    """Batch sampler that skips its first `skip` batches in the next iteration only.

    Args:
        batches: Batch sampler that has a length.
    """

    def __init__(self, batches: Any) -> None:
        self.batches = batches
        self.skip = 0

    @property
    def sampler(self) -> Any:
        """Object on which Lightning calls `set_epoch`."""
        return self.batches.sampler

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Draw]]:
        skip, self.skip = self.skip, 0
        return islice(iter(self.batches), skip, None)


class ResumableLoader(DataLoader[Item]):
    """Data loader that counts the batches of the epoch and can skip as many on resuming.

    Lightning stores `state_dict` in checkpoints and passes it to `load_state_dict` on resuming. A batch depends only on its
    draws, so the remaining batches equal those of an uninterrupted run.

    Args:
        images: Dataset of images.
        batches: Batch sampler that has a length.
        options: Options of `torch.utils.data.DataLoader`.
    """

    def __init__(self, images: Images, batches: Any, **options: Any) -> None:
        self.remaining = SkipFirst(batches)
        self.num_yielded = 0
        super().__init__(images, batch_sampler=self.remaining, **options)

    def __iter__(self) -> Any:
        """Yield the remaining batches of the epoch and count them."""
        self.num_yielded = self.remaining.skip
        for batch in super().__iter__():
            self.num_yielded += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return the number of batches of this epoch that were yielded."""
        return {"batches": self.num_yielded}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Make the next iteration skip the batches that were yielded, or none if the epoch was complete."""
        self.remaining.skip = state["batches"] % len(self.remaining)
