"""Publish a trained model or adapter on the Hub, after checking that it is complete and gives nothing away.

    compalign publish --folder runs/degla --repo_id me/degla-b32 --tag v1

The folder holds the weights, the processor, a card and results.json. The repository is private unless
`--private false` is given; `--dry_run true` checks, prints what would be sent, and sends nothing. Log in with
`hf auth login`, or set HF_TOKEN. Writes publication.json into the folder.
"""

from dataclasses import dataclass, field
from pathlib import Path

from transformers.utils import logging

from .. import modeling  # noqa: F401  (makes our model types known to the Auto classes)
from ..hub_cards.publishing import RECORD, Publication, publish
from ..trainers.recipe import parse_recipe


@dataclass
class PublishArguments:
    """What to publish, and where."""

    folder: str = field(metadata={"help": "Folder of the model or adapter."})
    repo_id: str = field(metadata={"help": "Where it goes: user/name."})
    private: bool = field(default=True, metadata={"help": "Only those who may see the repository find it."})
    revision: str = field(default="main", metadata={"help": "Branch; made from main where there is none."})
    tag: str | None = field(default=None, metadata={"help": "Tag to give to the commit."})
    leave_out: list[str] = field(default_factory=list, metadata={"help": "Patterns of names not to publish."})
    dry_run: bool = field(default=False, metadata={"help": "Check and print, send nothing."})
    attempts: int = field(default=6, metadata={"help": "How often each step is tried."})
    backoff: float = field(default=1.0, metadata={"help": "Seconds before the second attempt; doubles each time."})


def main(arguments: list[str] | None = None) -> Publication:
    """Check, publish, record."""
    (args,) = parse_recipe(PublishArguments, arguments=arguments, description=__doc__)
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
