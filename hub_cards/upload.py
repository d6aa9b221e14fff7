"""Uploading a folder to the Hub in one commit: what `HfApi.create_commit` does not do by itself.

Transient failures are retried, another visibility or a taken tag is refused, the commit is verified, and refusals are
said in plain words.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError, HTTPError

MAIN = "main"
WRITTEN_BY_THE_HUB = ".gitattributes"
LONGEST_WAIT = 120.0  # seconds
TOO_MANY_REQUESTS = 429
REFUSALS = {
    401: "the Hub does not know you; run `hf auth login`, or set HF_TOKEN to a token with write access.",
    403: "this token may not write here.",
    404: "not found, or hidden from you.",
    412: "someone else has written to the branch meanwhile; look, then rerun.",
}
Result = TypeVar("Result")


class Retry(NamedTuple):
    """How often to try each step, and how long to wait in between.

    Args:
        attempts (`int`): Attempts per step, >= 1.
        backoff (`float`): Seconds before the second attempt; doubled before each further one, unless the Hub names a
            time.
        report (callable): Called with each line that says what happens.
    """

    attempts: int = 6
    backoff: float = 1.0
    report: Callable[[str], Any] = print

    def __call__(self, what: str, action: Callable[[], Result]) -> Result:
        """Repeat an action until it succeeds, as long as its failures may be transient.

        Raises:
            ValueError: If the Hub refuses.
            ConnectionError: If all attempts fail.
        """
        for attempt in range(1, self.attempts + 1):
            try:
                return action()
            # An upload in threads fails with a RuntimeError that names the file.
            except (HTTPError, RuntimeError) as error:
                status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
                if status is not None and status != TOO_MANY_REQUESTS and status < 500:
                    raise ValueError(f"{what}: {REFUSALS.get(status, 'refused.')} {_words(error)}") from error
                if attempt == self.attempts:
                    raise ConnectionError(
                        f"{what} failed {attempt} times, last with: {_words(error)}. The revision is either unchanged "
                        "or complete. Run the same command again later: files that were uploaded are not sent twice"
                    ) from error
                wait = min(_retry_after(error) or self.backoff * 2 ** (attempt - 1), LONGEST_WAIT)
                self.report(f"{what}: {_words(error)}; attempt {attempt + 1} of {self.attempts} in {wait:g} s")
                time.sleep(wait)
        raise ValueError(f"attempts={self.attempts} must be at least 1")


class Uploaded(NamedTuple):
    """The commit that holds the files, and whether this upload made it."""

    commit: str
    changed: bool


def upload(
    folder: str | Path,
    repo_id: str,
    api: HfApi,
    private: bool = True,
    revision: str = MAIN,
    tag: str | None = None,
    message: str = "Publish with compalign",
    retry: Retry | None = None,
) -> Uploaded:
    """Make a revision hold exactly the files of a folder, in one commit.

    At every moment a revision is either unchanged or complete. Every attempt first compares the folder with the Hub: if
    a commit succeeded and only its answer was lost, nothing is left to do. Unchanged files are not sent again.

    Args:
        folder (`str` or `Path`): Files to upload. Files of the revision that are not in the folder are deleted.
        repo_id (`str`): Model repository; created if it does not exist.
        api (`HfApi`): Endpoint and token.
        private (`bool`): Visibility. That of an existing repository must agree.
        revision (`str`): Branch; created from main if it does not exist.
        tag (`str`, *optional*): Tag for the commit. An existing tag must point to the same files.
        message (`str`): Title of the commit.
        retry (`Retry`, *optional*): How often and how long to try.

    Returns:
        `Uploaded`: the commit.

    Raises:
        ValueError: If the Hub refuses, or the repository's visibility, the tag or the branch is not as expected.
        ConnectionError: If the Hub cannot be reached or fails in all attempts.
    """
    retry = retry or Retry()
    _open_repository(repo_id, api, private, revision, retry)
    parent, tags = retry("read branches", lambda: _head_and_tags(repo_id, api, revision))
    if tag in tags and any(retry("read tag", lambda: _differences(folder, repo_id, api, tags[tag]))):
        raise ValueError(f"{repo_id}: tag {tag} is taken by commit {tags[tag][:8]}, which holds other files")

    def settle() -> str:
        head, _ = _head_and_tags(repo_id, api, revision)
        differing, surplus = _differences(folder, repo_id, api, head)
        if not differing and not surplus:
            return head
        if head != parent:
            raise ValueError(
                f"{repo_id}: {revision} moved from {parent[:8]} to {head[:8]} meanwhile; look, then repeat"
            )
        operations = [CommitOperationAdd(name, str(Path(folder, name))) for name in differing]
        operations += [CommitOperationDelete(name, is_folder=False) for name in surplus]
        commit = api.create_commit(
            repo_id, operations, commit_message=message, revision=revision, parent_commit=parent
        ).oid
        wrong = [name for names in _differences(folder, repo_id, api, commit) for name in names]
        if wrong:
            raise ValueError(f"{repo_id}: commit {commit[:8]} does not hold what was sent: {', '.join(wrong)}")
        retry.report(f"committed {commit[:8]} to {revision}: {len(differing)} files written, {len(surplus)} deleted")
        return commit

    commit = retry("upload", settle)
    if tag is not None and tag not in tags:
        retry("tag", lambda: api.create_tag(repo_id, tag=tag, revision=commit, exist_ok=True))
        retry.report(f"tagged {commit[:8]} as {tag}")
    return Uploaded(commit, commit != parent)


def _open_repository(repo_id: str, api: HfApi, private: bool, revision: str, retry: Retry) -> None:
    """Create the repository and the branch if they do not exist; refuse another visibility."""
    retry("create repository", lambda: api.create_repo(repo_id, private=private, exist_ok=True))
    found = retry("read repository", lambda: api.model_info(repo_id)).private
    if found != private:
        visibility = "private" if found else "public"
        raise ValueError(f"{repo_id} exists and is {visibility}, and private={private} was asked for")
    if revision != MAIN:
        retry("create branch", lambda: api.create_branch(repo_id, branch=revision, exist_ok=True))


def _head_and_tags(repo_id: str, api: HfApi, revision: str) -> tuple[str, dict[str, str]]:
    """The commit of a branch, and the commit of each tag."""
    refs = api.list_repo_refs(repo_id)
    branches = {branch.name: branch.target_commit for branch in refs.branches}
    if revision not in branches:
        raise ValueError(f"{repo_id} has no branch {revision!r}; it has {', '.join(branches)}")
    return branches[revision], {tag.name: tag.target_commit for tag in refs.tags}


def _differences(folder: str | Path, repo_id: str, api: HfApi, commit: str) -> tuple[list[str], list[str]]:
    """Files that a commit lacks or holds with other content, and files that it has beyond the folder's."""
    found = api.verify_repo_checksums(repo_id, revision=commit, local_dir=folder)
    differing = [*found.extra_paths, *(mismatch["path"] for mismatch in found.mismatches)]
    return sorted(differing), [name for name in found.missing_paths if name != WRITTEN_BY_THE_HUB]


def _retry_after(error: Exception) -> float | None:
    """Seconds after which the Hub asks to come back."""
    answer = error.response.headers.get("Retry-After", "") if isinstance(error, HfHubHTTPError) else ""
    return float(answer) if answer.isdecimal() else None


def _words(error: Exception) -> str:
    """The first lines of an error and of its cause."""
    causes = [cause for cause in (error, error.__cause__) if cause is not None]
    return " ".join((str(cause).strip() or type(cause).__name__).splitlines()[0] for cause in causes)
