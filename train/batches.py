"""Choose the crops of each step. They depend only on the run's seed and the step, so a run can resume at any step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from hierseg.photo import Photo
from hierseg.tree import UInt8Map
from train.augment import Augmenter, paste_people
from train.dataset import Example


class Crops(Dataset[tuple[Tensor, Tensor]]):
    """Training crops addressed by (photo, seed)."""

    def __init__(
        self,
        examples: Sequence[Example],
        augmenter: Augmenter,
        paste: float = 0.0,
        guests: Sequence[int] | None = None,
        numbers: Sequence[UInt8Map] | None = None,
    ) -> None:
        """Serve crops.

        Args:
            examples: The photos.
            augmenter: Makes a crop.
            paste: Share of the crops into which people of another photo are pasted.
            guests: Photos that these people are taken from; None for all.
            numbers: For each photo, the number in crops of each of its labels, uint8 (256,); None to keep the labels.
        """
        self._examples = examples
        self._augmenter = augmenter
        self._paste = paste
        self._guests = range(len(examples)) if guests is None else guests
        self._numbers = numbers

    def __getitem__(self, address: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return a photo, uint8 (3, size, size), and its label map, uint8 (size, size), in the numbers given."""
        index, seed = address
        photo, label_map = self._crop(index, seed)
        random = np.random.default_rng((seed, 1))  # not the crop's own stream
        if random.random() < self._paste:
            guest = self._guests[int(random.integers(len(self._guests)))]
            people = self._crop(guest, int(random.integers(2**31)))
            photo, label_map = paste_people(photo, label_map, *people, self._augmenter.background, self._augmenter.void)
        return torch.from_numpy(photo).permute(2, 0, 1), torch.from_numpy(label_map)

    def _crop(self, index: int, seed: int) -> tuple[Photo, UInt8Map]:
        photo, label_map = self._augmenter(self._examples[index].photo, self._examples[index].label_map, seed)
        return photo, label_map if self._numbers is None else self._numbers[index][label_map]

    def __len__(self) -> int:
        """Return the number of photos."""
        return len(self._examples)


class Batches(Sampler[list[tuple[int, int]]]):
    """The batches of a range of steps, as addresses of `Crops`.

    An epoch has one crop per photo, less those that do not fill a batch. Each source gives its share of the crops, and
    uses all its photos, in a new order each time, before it repeats one.
    """

    drop_last = True

    def __init__(
        self,
        photos: Sequence[int],
        shares: Sequence[float],
        batch_size: int,
        first_step: int,
        last_step: int,
        seed: int,
    ) -> None:
        """Plan the batches of steps first_step to last_step - 1.

        Args:
            photos: Number of photos in each source; indices run through the sources in order.
            shares: Share of the crops that each source gives, up to a common factor.
            batch_size: Crops per batch.
            first_step: The first batch.
            last_step: The one after the last.
            seed: Seed of the run.
        """
        self._photos = photos
        self._crops = _apportioned(sum(photos), shares)
        self.batch_size = batch_size
        self._steps = range(first_step, last_step)
        self._seed = seed

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        """Yield batches of (photo, seed)."""
        steps_per_epoch = sum(self._photos) // self.batch_size
        planned, order = -1, np.zeros(0, np.int64)
        for step in self._steps:
            epoch, position = divmod(step, steps_per_epoch)
            if epoch != planned:
                planned, order = epoch, self._order(epoch)
            first = position * self.batch_size
            seeds = np.random.default_rng((self._seed, epoch, position)).integers(2**31, size=self.batch_size)
            chosen = order[first : first + self.batch_size]
            yield list(zip(chosen.tolist(), seeds.tolist(), strict=True))

    def _order(self, epoch: int) -> npt.NDArray[np.int64]:
        """Return the photos of an epoch's crops."""
        sources = np.repeat(np.arange(len(self._photos)), self._crops)
        if len(self._photos) > 1:
            np.random.default_rng((self._seed, epoch, len(sources), 1)).shuffle(sources)
        order = np.zeros(len(sources), np.int64)
        start = 0
        for source, (photos, crops) in enumerate(zip(self._photos, self._crops, strict=True)):
            turns = range(epoch * crops // photos, -(-(epoch + 1) * crops // photos))
            shown = [start + self._turn(source, turn) for turn in turns]
            skipped = epoch * crops - turns.start * photos if shown else 0
            order[sources == source] = np.concatenate([*shown, order[:0]])[skipped : skipped + crops]
            start += photos
        return order

    def _turn(self, source: int, turn: int) -> npt.NDArray[np.int64]:
        """Return the order of a source's photos when it uses them for the turn-th time."""
        key = (self._seed, turn) if source == 0 else (self._seed, turn, 0, source)
        return np.random.default_rng(key).permutation(self._photos[source])

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self._steps)


def _apportioned(total: int, shares: Sequence[float]) -> list[int]:
    """Split a number by shares into whole numbers; the largest remainders are rounded up."""
    wanted = [total * share / sum(shares) for share in shares]
    counts = [int(number) for number in wanted]
    by_remainder = sorted(range(len(shares)), key=lambda index: counts[index] - wanted[index])
    for index in by_remainder[: total - sum(counts)]:
        counts[index] += 1
    return counts
