"""Streams as training rows: endless, without a length, and split over processes and workers row by row."""

import itertools
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

from accelerate import Accelerator
from accelerate.data_loader import prepare_data_loader
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info
from transformers import TrainingArguments

from ..data.processes import rank_and_world
from ..data.readers.bad_rows import check_on_bad_row

logger = logging.getLogger(__name__)

Row = dict[str, Any]


class StreamedRows(IterableDataset):
    """Rows of a stream with their index and the pass, which begins anew whenever the stream ends.

    Of W processes with N workers each, every one takes each W*N-th row, so that all rows come once per pass, whatever W
    and N are. Every one reads the whole stream, but decodes only the images of its own rows. Rows that cannot be used
    are left out, and the next one moves up.

    An item is the row with two more keys: `row`, the place in the stream, and `epoch`, the number of the pass.

    Args:
        stream (`IterableDataset`): Of PyTorch or of `datasets`. Each `iter` begins anew and gives all rows, in an order
            that is the same in every process and worker; `set_epoch` is called before each pass where there is one.
        batch_size (`int`): Rows of a process's batch.
        on_bad_row (`str`): `"skip"` to leave out rows that cannot be used, `"raise"` to stop at the first.
        prepare (`Callable`): Turns a row into what the collator takes.

    Raises:
        ValueError: If the stream has been split by process already; while reading, if a pass gives a worker fewer rows
            than a batch has, or at the first bad row where that is asked for.
    """

    def __init__(
        self, stream: IterableDataset, batch_size: int, on_bad_row: str = "skip", prepare: Callable[[Row], Row] = dict
    ):
        check_on_bad_row(on_bad_row)
        if getattr(stream, "_distributed", None) is not None:
            raise ValueError(
                "the stream is split by process already (split_dataset_by_node): give every process the whole stream, "
                "which the trainer splits itself"
            )
        self.stream = stream
        self.batch_size = batch_size
        self.on_bad_row = on_bad_row
        self.prepare = prepare
        self.process = rank_and_world()

    def set_epoch(self, epoch: int) -> None:
        """Called by the data loader before the only pass that it knows of; passes are counted here."""

    def first(self, count: int) -> list[Row]:
        """Read the first rows, without decoding their images."""
        return list(itertools.islice(_raw_rows(self.stream, epoch=0), count))

    def __iter__(self) -> Iterator[Row]:
        rank, world = self.process
        worker = get_worker_info()
        number, workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        share, shares = rank * workers + number, world * workers
        for epoch in itertools.count():
            mine = itertools.islice(enumerate(_raw_rows(self.stream, epoch)), share, None, shares)
            used = 0
            for index, raw in mine:
                row = self._read(raw, index, epoch)
                if row is not None:
                    used += 1
                    yield row
            if used < self.batch_size:
                raise ValueError(
                    f"a pass over the stream gives {used} usable rows to one of {shares} workers of all processes, and "
                    f"a batch takes {self.batch_size}: use a longer stream, fewer workers or a smaller batch"
                )

    def _read(self, raw: Row, index: int, epoch: int) -> Row | None:
        """Prepare a row; None if it cannot be used."""
        try:
            row = self.prepare(_decoded(self.stream, raw))
        except MemoryError:  # the row is not to blame
            raise
        except Exception as error:  # damaged files and odd templates raise all kinds
            self._meet_bad_row(index, epoch, error)
            return None
        return {**row, "row": index, "epoch": epoch}

    def _meet_bad_row(self, index: int, epoch: int, error: Exception) -> None:
        """Name the row once, or stop the run."""
        if self.on_bad_row == "raise":
            raise ValueError(f"row {index} of the stream cannot be read: {error}") from error
        if epoch == 0:
            logger.warning("row %d of the stream cannot be read and is left out: %s", index, error)


def stream_loader(
    rows: StreamedRows, collate: Callable, args: TrainingArguments, accelerator: Accelerator
) -> DataLoader:
    """Make the loader of a stream, which accelerate would split once more.

    Args:
        rows (`StreamedRows`): The rows of this process.
        collate (`Callable`): Makes a batch of them.
        args (`TrainingArguments`): Batch size and workers.
        accelerator (`Accelerator`): Knows the device.
    """
    loader = DataLoader(
        rows,
        rows.batch_size,
        collate_fn=collate,
        num_workers=args.dataloader_num_workers,
        pin_memory=args.dataloader_pin_memory,
        persistent_workers=args.dataloader_persistent_workers,
        prefetch_factor=args.dataloader_prefetch_factor,
    )
    return prepare_data_loader(
        loader, accelerator.device, num_processes=1, process_index=0, put_on_device=True, dispatch_batches=False
    )


def is_stream(rows: Any) -> bool:
    """Whether rows come one after the other, without a length."""
    return isinstance(rows, IterableDataset)


def plain_rows(rows: Any) -> Any:
    """Make rows readable by place, with Python's own values.

    A stream is read into memory, its images undecoded: an evaluation sees every row once. The format of a
    `datasets.Dataset`, such as `with_format("torch")`, is taken off; a transform of the user's stays.

    Args:
        rows: A dataset, a list, or a stream that ends.
    """
    if is_stream(rows):
        return HeldRows(rows)
    datasets = sys.modules.get("datasets")  # whoever made one of its datasets has loaded it
    if datasets is None or not isinstance(rows, datasets.Dataset) or rows.format["type"] in (None, "custom"):
        return rows
    return rows.with_format(None, columns=rows.format["columns"], output_all_columns=rows.format["output_all_columns"])


class HeldRows(Dataset):
    """The rows of a stream in memory, whose images are decoded on reading."""

    def __init__(self, stream: IterableDataset):
        self.stream = stream
        self.raw = list(_raw_rows(stream, epoch=0))

    def __len__(self) -> int:
        return len(self.raw)

    def __getitem__(self, index: int) -> Row:
        return _decoded(self.stream, self.raw[index])


def _raw_rows(stream: Any, epoch: int) -> Iterator[Row]:
    """One pass over a stream; one of `datasets` leaves images undecoded, where it knows which columns are images."""
    if not _of_datasets(stream):
        if hasattr(stream, "set_epoch"):
            stream.set_epoch(epoch)
        yield from stream
        return
    raw = stream.with_format(None)  # a copy, whose epoch no other worker shares
    if raw.features is not None:
        raw = raw.decode(False)
    raw.set_epoch(epoch)
    # `iter` of a stream would split its files over the workers of a loader, unevenly.
    for batch in raw.iter(batch_size=1):
        yield {name: values[0] for name, values in batch.items()}


def _decoded(stream: Any, raw: Row) -> Row:
    """Decode the images of a row."""
    return stream.features.decode_example(raw) if _of_datasets(stream) and stream.features is not None else raw


def _of_datasets(stream: Any) -> bool:
    """Whether a stream is an `IterableDataset` of `datasets`."""
    datasets = sys.modules.get("datasets")
    return datasets is not None and isinstance(stream, datasets.IterableDataset)
