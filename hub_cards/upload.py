"""Bringing a folder to the Hub in one commit, whatever the network does meanwhile."""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError, HTTPError
from huggingface_hub.hf_api import RepoFile

from .staging import list_files

MAIN = "main"
KEPT = ".gitattributes"  # the Hub's own
LONGEST_WAIT = 120.0  # seconds
TOO_MANY_REQUESTS = 429
Result = TypeVar("Result")


class Retry(NamedTuple):
    """How often and how long to try.

    Args:
        attempts (`int`): Of each step, at least 1.
        backoff (`float`): Seconds before the second attempt; doubled for each further one, unless the Hub names a time.
        report (callable): Called with each line that says what happens.
    """

    attempts: int = 6
    backoff: float = 1.0
    report: Callable[[str], Any] = print

    def __call__(self, what: str, action: Callable[[], Result]) -> Result:
        """Do something until it succeeds, as long as what fails may pass.

        Raises:
            ValueError: If the Hub refuses.
            ConnectionError: If it did not work out in all attempts.
        """
        for attempt in range(1, self.attempts + 1):
            try:
                return action()
            # An upload in threads fails with a RuntimeError that names the file.
            except (HTTPError, RuntimeError) as error:
                status = _status(error)
                if status is not None and status != TOO_MANY_REQUESTS and status < 500:
                    raise ValueError(f"{what}: {_refusal(status)} {_words(error)}") from error
                if attempt == self.attempts:
                    raise ConnectionError(
                        f"{what} failed {attempt} times, last with: {_words(error)}. The revision is whole: as it was, "
                        "or complete. Run the same again later: what is uploaded already is not sent twice"
                    ) from error
                wait = min(_retry_after(error) or self.backoff * 2 ** (attempt - 1), LONGEST_WAIT)
                self.report(f"{what}: {_words(error)}; attempt {attempt + 1} of {self.attempts} in {wait:g} s")
                time.sleep(wait)
        raise ValueError(f"attempts={self.attempts} must be at least 1")


class Uploaded(NamedTuple):
    """Where the files are now, and whether that took a commit."""

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

    A revision is at every moment what it was, or complete. Every attempt begins with what the Hub holds: if a commit
    went through and its answer was lost, there is nothing left to do. Files that are there are not sent again.

    Args:
        folder (`str` or `Path`): What to upload; files of the revision that are not in it are deleted.
        repo_id (`str`): Model repository; created where there is none.
        api (`HfApi`): Which Hub, as whom.
        private (`bool`): Who sees it. An existing repository must agree.
        revision (`str`): Branch; created from main where there is none.
        tag (`str`, optional): Tag to give to the commit. One that exists must hold the same files.
        message (`str`): Title of the commit.
        retry (`Retry`, optional): How often and how long to try.

    Returns:
        `Uploaded`: the commit.

    Raises:
        ValueError: If the Hub refuses; if the repository's visibility, the tag or the branch is not as expected.
        ConnectionError: If the Hub cannot be reached, or does not answer in all attempts.
    """
    retry = retry or Retry()
    files = list_files(folder)
    hashes = {name: content_hashes(path) for name, path in files.items()}
    remote = _Remote(api, repo_id, retry, hashes)
    parent, tagged = remote.open(private, revision, tag)

    def settle() -> str:
        head = remote.names(revision)[0]
        differing, surplus = remote.compare(head)
        if not differing and not surplus:
            return head
        if head != parent:
            raise ValueError(
                f"{repo_id}: {revision} moved from {parent[:8]} to {head[:8]} meanwhile; look, then repeat"
            )
        operations = [CommitOperationAdd(name, str(files[name])) for name in differing]
        operations += [CommitOperationDelete(name, is_folder=False) for name in surplus]
        commit = api.create_commit(
            repo_id, operations, commit_message=message, revision=revision, parent_commit=parent
        ).oid
        wrong = [name for names in remote.compare(commit) for name in names]
        if wrong:
            raise ValueError(f"{repo_id}: commit {commit[:8]} does not hold what was sent: {', '.join(wrong)}")
        retry.report(f"committed {commit[:8]} to {revision}: {len(differing)} files written, {len(surplus)} deleted")
        return commit

    commit = retry("upload", settle)
    if tag is not None and not tagged:
        retry("tag", lambda: api.create_tag(repo_id, tag=tag, revision=commit, exist_ok=True))
        retry.report(f"tagged {commit[:8]} as {tag}")
    return Uploaded(commit, commit != parent)


class _Remote(NamedTuple):
    """A repository, and the hashes of the files that it shall hold."""

    api: HfApi
    repo_id: str
    retry: Retry
    hashes: dict[str, "Hashes"]

    def open(self, private: bool, revision: str, tag: str | None) -> tuple[str, bool]:
        """Make sure of the repository and its branch; return the branch's commit, and whether the tag is set."""
        repo, api = self.repo_id, self.api
        self.retry("create repository", lambda: api.create_repo(repo, private=private, exist_ok=True))
        found = self.retry("read repository", lambda: api.model_info(repo)).private
        if found != private:
            words = {True: "private", False: "public"}
            raise ValueError(f"{repo} exists and is {words[found]}, and private={private} was asked for")
        if revision != MAIN:
            self.retry("create branch", lambda: api.create_branch(repo, branch=revision, exist_ok=True))
        head, tags = self.retry("read branches", lambda: self.names(revision))
        if tag in tags and any(self.retry("read tag", lambda: self.compare(tags[tag]))):
            raise ValueError(f"{repo}: tag {tag} is taken by commit {tags[tag][:8]}, which holds other files")
        return head, tag in tags

    def names(self, revision: str) -> tuple[str, dict[str, str]]:
        """The commit of a branch, and those of all tags."""
        refs = self.api.list_repo_refs(self.repo_id)
        branches = {branch.name: branch.target_commit for branch in refs.branches}
        if revision not in branches:
            raise ValueError(f"{self.repo_id} has no branch {revision!r}; it has {', '.join(branches)}")
        return branches[revision], {tag.name: tag.target_commit for tag in refs.tags}

    def compare(self, commit: str) -> tuple[list[str], list[str]]:
        """Files that a commit lacks or has otherwise, and files that it has too many."""
        tree = self.api.list_repo_tree(self.repo_id, revision=commit, recursive=True)
        there = {
            file.path: file.lfs.sha256 if file.lfs else file.blob_id for file in tree if isinstance(file, RepoFile)
        }
        differing = [name for name, hashes in self.hashes.items() if there.get(name) not in hashes]
        return differing, sorted(there.keys() - self.hashes.keys() - {KEPT})


class Hashes(NamedTuple):
    """What the Hub calls a file's content: git's name for a small file, the SHA-256 for a large one."""

    git: str
    sha256: str


def content_hashes(path: Path) -> Hashes:
    """Hash the content of a file in pieces."""
    git, large = hashlib.sha1(b"blob %d\0" % path.stat().st_size), hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            git.update(chunk)
            large.update(chunk)
    return Hashes(git.hexdigest(), large.hexdigest())


def _status(error: Exception) -> int | None:
    """HTTP status of an answer of the Hub's; none of a lost connection, or of an upload, which is worth repeating."""
    return error.response.status_code if isinstance(error, HfHubHTTPError) else None


def _retry_after(error: Exception) -> float | None:
    """Seconds after which the Hub asks to come back."""
    answer = error.response.headers.get("Retry-After", "") if isinstance(error, HfHubHTTPError) else ""
    return float(answer) if answer.isdecimal() else None


def _words(error: Exception) -> str:
    """The first lines of an error and of what caused it."""
    causes = [cause for cause in (error, error.__cause__) if cause is not None]
    return " ".join((str(cause).strip() or type(cause).__name__).splitlines()[0] for cause in causes)


def _refusal(status: int) -> str:
    """What a status means here."""
    return {
        401: "the Hub does not know you: `hf auth login`, or set HF_TOKEN to a token that may write.",
        403: "this token may not write here.",
        404: "not found, or hidden from you.",
        412: "someone else has written to the branch meanwhile; look, then rerun.",
    }.get(status, "refused.")
