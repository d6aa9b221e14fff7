"""Publishing a model: its files are gathered in a fresh folder, checked there, and uploaded in one commit."""

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import HfApi
from huggingface_hub.utils import validate_repo_id

from ..data.provenance import versions
from ..modeling.conversion.safe_loading import sha256
from .scan import scan_folder
from .staging import list_files, stage
from .upload import MAIN, Retry, upload
from .verify import CARD, check_card, check_files, check_loads_back

if TYPE_CHECKING:
    from transformers import PreTrainedModel

RECORD = "publication.json"
LIBRARIES = ("compalign", "torch", "transformers", "huggingface_hub")


@dataclass
class Publication:
    """Record of a publication, or of a dry run.

    Args:
        repo_id (`str`): Repository, as `user/name`.
        revision (`str`): Branch.
        tag (`str`, *optional*): Tag of the commit.
        private (`bool`): Visibility of the repository.
        endpoint (`str`): Address of the Hub.
        commit (`str`, *optional*): The commit that holds the files. None after a dry run.
        changed (`bool`): Whether this publication made the commit. False where the revision already held the same
            files.
        files (`dict[str, dict]`): `size` in bytes and `sha256` of each file.
        left_out (`list[str]`): Files and folders that were not published.
        verified (`str`): How loading back was checked.
        versions (`dict[str, str]`): Versions of the libraries.
        created (`str`): ISO 8601, UTC.
    """

    repo_id: str
    revision: str
    tag: str | None
    private: bool
    endpoint: str
    commit: str | None
    changed: bool
    files: dict[str, dict[str, Any]]
    left_out: list[str]
    verified: str
    versions: dict[str, str]
    created: str

    def to_json(self, path: str | Path) -> None:
        """Write the record to a file, usually `publication.json` beside the weights, which is never published."""
        Path(path).write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")


def publish(
    source: "str | Path | PreTrainedModel",
    repo_id: str,
    *,
    private: bool = True,
    revision: str = MAIN,
    tag: str | None = None,
    beside: str | Path | None = None,
    leave_out: Sequence[str] = (),
    dry_run: bool = False,
    message: str = "Publish with compalign",
    api: HfApi | None = None,
    attempts: int = 6,
    backoff: float = 1.0,
    report: Callable[[str], Any] = print,
) -> Publication:
    """Publish a model or an adapter on the Hub: stage its files, check them, and upload them in one commit.

    Nothing is sent before every check has passed: weights are safetensors; no file holds a secret or a path of this
    machine; the card is complete and its numbers are those of `results.json`; and where compalign cannot be imported,
    the Auto classes load the same weights, bit by bit, and give the same answers. The code of compalign's models is
    added where it is not beside the weights. Running it again continues an interrupted upload, and does nothing where
    nothing has changed.

    In the card, `from_pretrained(".")` becomes `from_pretrained(repo_id)`. Checking runs the code beside the weights,
    and the code of an adapter's base.

    Args:
        source (`str`, `Path` or `PreTrainedModel`): Folder of a model with its processor, or of a peft adapter with or
            without a processor, with `README.md` and `results.json`; or a model in memory.
        repo_id (`str`): Repository, as `user/name`; created if it does not exist.
        private (`bool`): Visibility. That of an existing repository must agree.
        revision (`str`): Branch; created from main if it does not exist.
        tag (`str`, *optional*): Tag for the commit.
        beside (`str` or `Path`, *optional*): Folder with the other files of a model in memory.
        leave_out (sequence of `str`): Patterns of names to leave out, besides what training leaves behind.
        dry_run (`bool`): Stop before anything is sent to the Hub.
        message (`str`): Title of the commit.
        api (`HfApi`, *optional*): Endpoint and token. Default: the Hub, with the token of the login.
        attempts (`int`): Attempts per step, >= 1.
        backoff (`float`): Seconds before the second attempt; doubles before each further one.
        report (callable): Called with each line that says what happens.

    Returns:
        `Publication`: record of what was done.

    Raises:
        FileNotFoundError: If the folder does not exist.
        ValueError: If anything is wrong with the files (every problem is named), or if the Hub refuses.
        ConnectionError: If the Hub fails in all attempts.
    """
    validate_repo_id(repo_id)
    if "/" not in repo_id:
        raise ValueError(f"repo_id is {repo_id!r}; it must be user/name")
    api = api or HfApi()
    with tempfile.TemporaryDirectory(prefix="publish-") as top:
        folder = Path(top, "staged")
        left_out = stage(source, folder, beside, leave_out)
        _name_repository(folder / CARD, repo_id)
        files = {
            name: {"size": path.stat().st_size, "sha256": sha256(path)} for name, path in list_files(folder).items()
        }
        for name, file in files.items():
            report(f"{file['size']:>13,} bytes  {name}")
        report(f"left out: {', '.join(left_out) or 'nothing'}")
        own_paths = (source,) if isinstance(source, (str, Path)) else ()
        findings = [*check_files(folder), *check_card(folder, repo_id), *scan_folder(folder, own_paths)]
        if findings:
            raise ValueError("\n  ".join([f"not published; {len(findings)} problems:", *map(str, findings)]))
        report("files and card are in order; no secret, no path of this machine")
        verified = check_loads_back(source, folder)
        report(verified)
        publication = Publication(
            repo_id=repo_id,
            revision=revision,
            tag=tag,
            private=private,
            endpoint=api.endpoint,
            commit=None,
            changed=False,
            files=files,
            left_out=left_out,
            verified=verified,
            versions=versions(*LIBRARIES),
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )
        if dry_run:
            report(f"dry run: {repo_id} was not touched")
            return publication
        retry = Retry(attempts, backoff, report)
        done = upload(folder, repo_id, api, private, revision, tag, message, retry)
    publication.commit, publication.changed = done
    state = "published" if done.changed else "nothing to do: the same files are there already"
    report(f"{state}: {api.endpoint}/{repo_id}, {revision} at {done.commit}")
    return publication


def _name_repository(card: Path, repo_id: str) -> None:
    """Make the usage snippet load the repository instead of the current folder."""
    if card.is_file():
        text = card.read_text(encoding="utf-8")
        card.write_text(text.replace('from_pretrained("."', f'from_pretrained("{repo_id}"'), encoding="utf-8")
