"""Publish a trained model or adapter on the Hub, after checking that it is complete and gives nothing away.

    compalign publish --folder runs/degla --repo_id me/degla-b32 --dry_run
    compalign publish --folder runs/degla --repo_id me/degla-b32 --tag v1

The folder holds the weights, the processor, a card and results.json. The repository is private unless `--no_private` is
given. `--dry_run` checks, prints the files, and sends nothing. Log in with `hf auth login`, or set HF_TOKEN. Writes
publication.json into the folder.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..trainers.launch.recipe import parse_recipe

if TYPE_CHECKING:
    from ..hub_cards.publishing import Publication


@dataclass
class PublishArguments:
    """The folder to publish, and its repository."""

    folder: str = field(metadata={"help": "Folder of the model or adapter.", "group": "model"})
    repo_id: str = field(metadata={"help": "Repository to publish in, as user/name; created if absent."})
    private: bool = field(default=True, metadata={"help": "Create the repository as private."})
    revision: str = field(default="main", metadata={"help": "Branch, created from main if absent."})
    tag: str | None = field(default=None, metadata={"help": "Tag for the commit."})
    leave_out: list[str] = field(
        default_factory=list, metadata={"help": "Patterns of further file names to leave out, such as '*.log'."}
    )
    dry_run: bool = field(default=False, metadata={"help": "Check, print the files, and send nothing."})
    attempts: int = field(default=6, metadata={"help": "Largest number of attempts per request."})
    backoff: float = field(default=1.0, metadata={"help": "Seconds before the second attempt; doubled each time."})


def main(arguments: list[str] | None = None) -> "Publication":
    """Check, publish, record."""
    (args,) = parse_recipe(PublishArguments, arguments=arguments, description=__doc__, command="compalign publish")
    from transformers.utils import logging

    from .. import modeling  # noqa: F401  (makes our model types known to the Auto classes)
    from ..hub_cards.publishing import RECORD, publish

    logging.set_verbosity_error()
    publication = publish(
        args.folder,
        args.repo_id,
        private=args.private,
        revision=args.revision,
        tag=args.tag,
        leave_out=args.leave_out,
        dry_run=args.dry_run,
        attempts=args.attempts,
        backoff=args.backoff,
    )
    if publication.commit is not None:
        publication.to_json(Path(args.folder, RECORD))
    return publication
