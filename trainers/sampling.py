"""The order of a contrastive training's rows: captions of one image never share a batch.

Each is right for the image, and would be contrasted with it as if it were wrong.
"""

import heapq
import logging
import random
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

from torch.utils.data import Sampler
from transformers import TrainingArguments

from .columns import IMAGE_ID, column_of

logger = logging.getLogger(__name__)


class ImagesApartSampler(Sampler[int]):
    """Orders rows at random so that no batch has two of one image. The order is a function of the seed and the epoch.

    Rows that find no place are left out of an epoch, others in each: those of an incomplete last batch where it is
    dropped, and those of an image with more captions than there are batches.

    Args:
        image_ids (`Sequence[Hashable]`): Which image each row shows.
        batch_size (`int`): Rows that are contrasted at once: of a process's batch, times processes.
        seed (`int`): Root of the order.
        drop_last (`bool`): Whether an incomplete last batch is dropped.

    Raises:
        ValueError: If no batch can be filled.
    """

    def __init__(self, image_ids: Sequence[Hashable], batch_size: int, seed: int = 0, drop_last: bool = True):
        rows_of = defaultdict(list)
        for row, image in enumerate(image_ids):
            rows_of[image].append(row)
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0
        self._images = list(rows_of.values())  # of each image: its rows
        self._sizes = self._batch_sizes(drop_last)
        if not self._sizes:
            raise ValueError(
                f"{len(image_ids)} rows show {len(self._images)} images, and captions of one image must not share a "
                f"batch, which has {batch_size} rows: lower per_device_train_batch_size, or set "
                "train_sampling_strategy to sequential to take the rows in their own order"
            )
        self.left_out = len(image_ids) - sum(self._sizes)

    def _batch_sizes(self, drop_last: bool) -> list[int]:
        """The size of each batch: as many full ones as there can be, and the incomplete last one."""
        captions = Counter(map(len, self._images))  # how many images have how many captions

        def placed(batches: int) -> int:
            """How many rows find a place in so many batches, however large, without meeting their image."""
            return sum(min(count, batches) * images for count, images in captions.items())

        # placed(n) / n never grows with n.
        low, high = 0, sum(map(len, self._images)) // self.batch_size
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if placed(middle) >= middle * self.batch_size else (low, middle - 1)
        last = 0 if drop_last else placed(low + 1) - low * self.batch_size
        return [self.batch_size] * low + [last] * (last > 1)  # a row alone has nothing to contrast

    def __len__(self) -> int:
        return sum(self._sizes)

    def set_epoch(self, epoch: int) -> None:
        """Called by the data loader before each pass."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        draw = random.Random(f"apart/{self.seed}/{self.epoch}")
        batches: list[list[int]] = [[] for _ in self._sizes]
        # Each image gives its captions to the batches with the most room, which fills all of them.
        room = [(-size, draw.random(), place) for place, size in enumerate(self._sizes)]
        heapq.heapify(room)
        for rows in draw.sample(self._images, len(self._images)):
            emptiest = [heapq.heappop(room) for _ in range(min(len(rows), len(room)))]
            for row, (size, _, place) in zip(draw.sample(rows, len(emptiest)), emptiest, strict=True):
                batches[place].append(row)
                if size < -1:
                    heapq.heappush(room, (size + 1, draw.random(), place))
        full = sum(size == self.batch_size for size in self._sizes)
        order = [*draw.sample(range(full), full), *range(full, len(batches))]  # an incomplete batch comes last
        return (row for place in order for row in draw.sample(batches[place], len(batches[place])))


def images_apart(rows: Any, args: TrainingArguments, seed: int) -> ImagesApartSampler | None:
    """Make the sampler that keeps captions of one image apart; None where it is not needed or not known to be.

    Args:
        rows: The training rows; those that name their images have a column `image_id`.
        args (`TrainingArguments`): Batch size, and the strategy: rows keep an order that is asked for.
        seed (`int`): Root of the order.
    """
    named = column_of(rows, IMAGE_ID) or []
    ids = [row if image is None else (image,) for row, image in enumerate(named)]  # an image without a name is its own
    if len(set(ids)) == len(ids):
        return None
    if args.train_sampling_strategy != "random":
        logger.warning(
            "%d rows show %d images: with train_sampling_strategy %s, captions of one image that share a batch are "
            "contrasted with each other's image",
            len(ids),
            len(set(ids)),
            args.train_sampling_strategy,
        )
        return None
    sampler = ImagesApartSampler(ids, args.train_batch_size * args.world_size, seed, args.dataloader_drop_last)
    if sampler.left_out >= sampler.batch_size:
        logger.warning(
            "%d of %d rows are left out of each epoch, others every time: their images have more captions than there "
            "are batches, and captions of one image must not share one",
            sampler.left_out,
            len(ids),
        )
    return sampler
