"""The record of a run: what it takes to repeat it, and what tells it from another."""

import dataclasses
import hashlib
import json
import math
from pathlib import Path
from typing import Any

from torch import nn
from transformers import TrainingArguments

from ...data.provenance import git_commit, versions
from ..streaming import StreamedRows
from ..trainer import BaseTrainer

RECORD, LOG = "run.json", "training_log.json"
LIBRARIES = ("compalign", "torch", "transformers", "accelerate")
SAMPLED_ROWS, SAMPLED_WEIGHTS = 16, 16
# Arguments under which a run stays the same: they change how it is watched, stored and fed, not what it learns.
FREE = {
    *("output_dir", "resume", "overwrite", "resume_from_checkpoint", "run_name", "project", "report_to", "debug"),
    *("disable_tqdm", "skip_memory_metrics", "include_num_input_tokens_seen", "use_cpu", "local_rank", "use_cache"),
    *("load_best_model_at_end", "metric_for_best_model", "greater_is_better", "prediction_loss_only", "chunk"),
    *("include_for_metrics", "per_device_eval_batch_size", "batch_eval_metrics", "loss_chunk", "do_train", "do_eval"),
    *("enable_jit_checkpoint", "torch_empty_cache_steps", "accelerator_config", "do_predict"),
    "restore_callback_states_from_checkpoint",
}
FREE_BEGINNINGS = (
    *("logging_", "log_", "save_", "eval_", "hub_", "push_to_hub", "trackio_", "ddp_", "torch_compile"),
    *("activation_checkpointing", "gradient_checkpointing", "dataloader_"),
)
BOUND = {"dataloader_drop_last"}

Record = dict[str, Any]


def run_record(trainer: BaseTrainer) -> Record:
    """Collect what it takes to repeat a run: arguments that differ from their defaults, data, commit, versions.

    Fields whose names speak of tokens are left out, for the record lies beside the weights.
    """
    record = {
        "trainer": type(trainer).__name__,
        "start": trainer.model.config.name_or_path,
        "start_weights": sampled_weights(trainer.model),
        "arguments": changed_arguments(trainer.args),
        "processes": trainer.args.world_size,
        "data": describe_rows(trainer),
        "commit": git_commit(),
        "versions": versions(*LIBRARIES),
    }
    return json.loads(_as_json(record))  # what a later start reads back


def changed_arguments(args: TrainingArguments) -> dict[str, Any]:
    """Return the arguments that differ from their defaults."""
    return {
        item.name: value
        for item in dataclasses.fields(args)
        if item.init and "token" not in item.name
        if (value := getattr(args, item.name)) != _default(item)
    }


def describe_rows(trainer: BaseTrainer) -> dict[str, Any]:
    """Return the number of training rows, and a digest of the texts of some of them."""
    rows: Any = trainer.train_dataset
    if rows is None:
        return {}
    if isinstance(rows, StreamedRows):
        workers = trainer.args.dataloader_num_workers  # which take turns, so that batches depend on them
        return {"rows": "a stream", "workers": workers, "digest": _digest(rows.first(SAMPLED_ROWS))}
    rows = getattr(rows, "conversations", rows.rows)
    places = sorted({place * len(rows) // SAMPLED_ROWS for place in range(SAMPLED_ROWS)}) if len(rows) else []
    return {"rows": len(rows), "digest": _digest([_readable(rows, place) for place in places])}


def _readable(rows: Any, place: int) -> Any:
    """A row, or nothing where it cannot be read: the trainer deals with that."""
    try:
        return rows[place]
    except MemoryError:
        raise
    except Exception:
        return None


def _digest(value: Any) -> str:
    """A short hash of the texts and numbers in rows."""
    return hashlib.sha256(_as_json(_texts(value)).encode()).hexdigest()[:16]


def _texts(value: Any) -> Any:
    """Texts and numbers, in the lists and dictionaries that hold them; no image, array or path."""
    if isinstance(value, dict):
        return {str(key): _texts(part) for key, part in value.items() if key not in ("bytes", "path")}
    if isinstance(value, (list, tuple)):
        return [_texts(part) for part in value]
    return value if isinstance(value, (str, int, float, bool)) else None


def sampled_weights(model: nn.Module) -> list[float]:
    """Return one value each of some parameters, by which a start is known: a path alone may come to hold others."""
    parameters = [parameter for parameter in model.parameters() if parameter.numel()]  # a shard elsewhere has none
    chosen = parameters[:: max(1, len(parameters) // SAMPLED_WEIGHTS)]
    return [parameter.detach().reshape(-1)[parameter.numel() // 2].item() for parameter in chosen]


def differences(before: Record, now: Record) -> list[str]:
    """Say what sets one run apart from another, by the names of arguments.

    Args:
        before (`dict`): Record of the earlier run. What an older version did not record is not compared.
        now (`dict`): Record of this run.
    """
    found = [
        f"{name} was {before[name]} and is {now[name]}"
        for name in ("trainer", "start", "processes")
        if name in before and before[name] != now[name]
    ]
    if not _alike(before.get("start_weights", []), now["start_weights"]):
        found.append("the weights to start from are others")
    if "data" in before and before["data"] != now["data"]:
        found.append(f"the training rows are others ({_count(before['data'])}, now {_count(now['data'])})")
    old, new = before.get("arguments", {}), now["arguments"]
    for name in sorted(name for name in {*old, *new} if _binds(name) and old.get(name) != new.get(name)):
        was, is_now = (values.get(name, "its default") for values in (old, new))
        found.append(f"{name} was {was} and is {is_now}")
    return found


def _alike(before: list[float], now: list[float]) -> bool:
    """Whether sampled weights are the same but for rounding; nothing is known where there are none."""
    if not before or not now:
        return True
    return len(before) == len(now) and all(
        math.isclose(one, two, rel_tol=1e-3, abs_tol=1e-6) for one, two in zip(before, now, strict=True)
    )


def _count(data: dict[str, Any]) -> str:
    """How many rows there were, in words."""
    return f"{data['rows']:,} rows" if isinstance(data.get("rows"), int) else str(data.get("rows", "none"))


def _binds(name: str) -> bool:
    """Whether an argument makes a run another."""
    return name in BOUND or not (name in FREE or name.startswith(FREE_BEGINNINGS))


def _default(item: dataclasses.Field) -> Any:
    """The default value of a field."""
    return item.default if item.default_factory is dataclasses.MISSING else item.default_factory()


def write_json(path: Path, content: Any) -> None:
    """Write readable JSON; what JSON does not know, as text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_as_json(content) + "\n", encoding="utf-8")


def _as_json(content: Any) -> str:
    return json.dumps(content, indent=1, default=str)
