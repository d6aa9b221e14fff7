"""Whatever the network does, a revision is what it was or complete, and running the upload again completes it."""

import random
import time
from contextlib import suppress
from pathlib import Path

import pytest
from faulty_http import Fault
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.utils import RepositoryNotFoundError
from loopback_hub import TOKEN, Commit, Stored, reachable_hub

from compalign.hub_cards.upload import Retry, upload

NAME = "me/model"
OLD = {"README.md": b"---\nlicense: mit\n---\n# old\n", "model.safetensors": b"old weights" * 100, "gone.json": b"{}"}
NEW = {
    "README.md": b"---\nlicense: mit\n---\n# new\n",
    "model.safetensors": b"new weights" * 300,
    "code/a.py": b"a = 1\n",
}
SOON = {"Retry-After": "3"}
FAULTS = [
    *(Fault("create_repo", kind) for kind in ("status", "status_after", "cut_before", "cut_after")),
    *(Fault("info", kind) for kind in ("cut_before", "cut_answer", "slow")),
    *(Fault("create_branch", kind) for kind in ("status", "cut_after")),
    *(Fault("refs", kind) for kind in ("cut_answer", "cut_before")),
    Fault("refs", "status", 502),
    *(Fault("tree", kind) for kind in ("status", "cut_answer")),
    Fault("validate", "status"),
    Fault("validate", "cut_request"),
    Fault("preupload", "status", 429, SOON),
    Fault("preupload", "cut_request"),
    Fault("lfs_batch", "status", 503),
    Fault("lfs_batch", "cut_after"),
    Fault("lfs_put", "status", 403),
    Fault("lfs_put", "status", 500),
    *(Fault("lfs_put", kind) for kind in ("cut_request", "cut_after", "corrupt")),
    *(Fault("lfs_verify", kind) for kind in ("status", "cut_before", "cut_after")),
    *(
        Fault("commit", kind)
        for kind in ("status_after", "cut_request", "cut_before", "cut_after", "cut_answer", "slow")
    ),
    Fault("commit", "status", 429, SOON),
    Fault("commit", "status", 504),
    *(Fault("create_tag", kind) for kind in ("status", "cut_before", "cut_after")),
]


@pytest.fixture
def hub(monkeypatch):
    with reachable_hub(monkeypatch) as hub:
        yield hub


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """The seconds that would have been waited."""
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    return waits


@pytest.fixture
def send(hub, tmp_path):
    """Upload files of these contents."""

    def send(files: dict[str, bytes], attempts: int = 1, **options):
        for name, content in files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(content)
        for path in tmp_path.rglob("*"):
            if path.is_file() and path.relative_to(tmp_path).as_posix() not in files:
                path.unlink()
        retry = Retry(attempts, options.pop("backoff", 1.0), options.pop("report", lambda line: None))
        return upload(tmp_path, NAME, HfApi(hub.endpoint, TOKEN), retry=retry, **options)

    return send


def held(hub, revision: str = "main") -> dict[str, bytes]:
    """What the hub holds, without its own file."""
    files = hub.repositories[NAME].files(revision)
    return {name: content for name, content in files.items() if name != ".gitattributes"}


def named(fault: Fault) -> str:
    """A name for the test of a fault."""
    return f"{fault.route}-{fault.kind}-{fault.status}"


@pytest.mark.parametrize("fault", FAULTS, ids=named)
def test_after_a_fault_the_revision_is_whole_and_a_rerun_completes_it(hub, send, waits, fault):
    revision = "next" if fault.route == "create_branch" else "main"
    send(OLD)
    hub.faults.append(fault)
    with suppress(ConnectionError):
        send(NEW, revision=revision, tag="v1")
    assert hub.injected == [fault]
    assert revision not in hub.repositories[NAME].branches or held(hub, revision) in (OLD, NEW)
    assert held(hub) in ((OLD, NEW) if revision == "main" else (OLD,))
    done = send(NEW, revision=revision, tag="v1")
    assert held(hub, revision) == held(hub, "v1") == held(hub, done.commit) == NEW
    titles = [commit.title for _, commit in hub.history(hub.repositories[NAME], revision)]
    assert titles == ["Publish with compalign", "Publish with compalign", "initial commit"]  # none twice, none half


@pytest.mark.parametrize("fault", FAULTS, ids=named)
def test_a_fault_that_passes_is_survived_in_one_call(hub, send, waits, fault):
    hub.faults.append(fault)
    done = send(NEW, attempts=3, revision="next", tag="v1")
    assert hub.injected == [fault]
    assert done.changed
    assert held(hub, "next") == held(hub, "v1") == NEW
    assert held(hub) == {}


@pytest.mark.parametrize("seed", range(3))
def test_many_faults_at_once_are_survived(hub, send, waits, seed):
    hub.faults += random.Random(seed).sample(FAULTS, len(FAULTS))
    send(NEW, attempts=len(FAULTS), revision="next", tag="v1")
    assert len(hub.injected) >= 20  # the others were of steps that had succeeded by then
    assert held(hub, "next") == held(hub, "v1") == NEW


def test_each_retry_is_told_with_its_reason_and_waits_longer(hub, send, waits):
    hub.faults += [Fault("commit", "status", 500), Fault("commit", "cut_before"), Fault("commit", "status", 429, SOON)]
    told = []
    send(NEW, attempts=4, backoff=0.5, report=told.append)
    assert waits == [0.5, 1.0, 3.0]
    assert [line.split(":")[0] for line in told] == ["upload"] * 3 + ["committed " + told[3].split()[1] + " to main"]
    assert "attempt 2 of 4 in 0.5 s" in told[0]
    assert "500" in told[0]
    assert "429" in told[2]


def test_a_hub_that_never_answers_is_given_up_in_words(hub, send, waits):
    hub.faults += [Fault("refs", "status", 503)] * 9
    with pytest.raises(ConnectionError, match=r"read branches failed 3 times, last with: .*503"):
        send(NEW, attempts=3)
    assert len(hub.injected) == 3
    assert waits == [1.0, 2.0]


def test_what_was_uploaded_before_an_interruption_is_not_sent_again(hub, send, monkeypatch):
    def interrupt(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)
    hub.faults.append(Fault("commit", "cut_before"))
    with pytest.raises(KeyboardInterrupt):
        send(NEW, attempts=2)
    assert held(hub) == {}
    assert send(NEW).changed
    assert hub.requests.count("lfs_put") == 1
    assert held(hub) == NEW


def test_the_same_content_again_is_no_commit_and_sends_nothing(hub, send):
    first = send(NEW, tag="v1")
    hub.requests.clear()
    again = send(NEW, tag="v1")
    assert again == (first.commit, False)
    assert {"preupload", "lfs_batch", "lfs_put", "commit", "create_tag"} & set(hub.requests) == set()


def test_one_commit_writes_what_differs_and_deletes_what_is_gone(hub, send):
    send(OLD)
    told = []
    send(NEW | {"model.safetensors": OLD["model.safetensors"]}, report=told.append)
    assert told[0].endswith("to main: 2 files written, 1 deleted")
    assert hub.requests.count("lfs_put") == 1
    assert set(held(hub)) == set(NEW)
    assert ".gitattributes" in hub.repositories[NAME].files()


def test_a_repository_is_private_unless_told_otherwise(hub, send):
    send(NEW)
    assert hub.repositories[NAME].private
    with pytest.raises(ValueError, match="exists and is private, and private=False was asked for"):
        send(NEW, private=False)


def test_nothing_is_added_to_a_repository_that_others_can_see_unasked(hub, send):
    send(OLD, private=False)
    with pytest.raises(ValueError, match="exists and is public, and private=True was asked for"):
        send(NEW)
    assert held(hub) == OLD
    assert send(NEW, private=False).changed


def test_a_tag_keeps_its_meaning(hub, send):
    send(OLD, tag="v1")
    with pytest.raises(ValueError, match=r"tag v1 is taken by commit \w{8}, which holds other files"):
        send(NEW, tag="v1")
    assert held(hub) == held(hub, "v1") == OLD


def test_what_someone_else_wrote_meanwhile_is_not_overwritten(hub, send, monkeypatch):
    send(OLD)

    def write(seconds):
        HfApi(hub.endpoint, TOKEN).upload_file(path_or_fileobj=b"theirs", path_in_repo="theirs.txt", repo_id=NAME)

    monkeypatch.setattr(time, "sleep", write)
    hub.faults.append(Fault("commit", "cut_before"))
    with pytest.raises(ValueError, match=r"main moved from \w{8} to \w{8} meanwhile"):
        send(NEW, attempts=2)
    assert held(hub) == OLD | {"theirs.txt": b"theirs"}


def test_what_someone_else_writes_at_the_last_moment_is_not_overwritten(hub, send, monkeypatch):
    send(OLD)
    repository, preupload = hub.repositories[NAME], HfApi.preupload_lfs_files

    def write_first(self, *arguments, **options):
        head = repository.resolve("main")
        files = repository.commits[head].files | {"theirs.txt": Stored(b"theirs")}
        repository.add("main", Commit(head, "theirs", files))
        preupload(self, *arguments, **options)

    monkeypatch.setattr(HfApi, "preupload_lfs_files", write_first)
    with pytest.raises(ValueError, match="someone else has written to the branch meanwhile"):
        send(NEW, attempts=2)
    assert held(hub) == OLD | {"theirs.txt": b"theirs"}


@pytest.mark.parametrize(("status", "words"), [(401, "hf auth login"), (403, "may not write"), (412, "someone else")])
def test_a_refusal_is_not_repeated_and_says_what_to_do(hub, send, waits, status, words):
    hub.faults.append(Fault("commit", "status", status))
    with pytest.raises(ValueError, match=words):
        send(NEW, attempts=5)
    assert waits == []


def test_a_private_model_is_hidden_from_strangers(hub, send):
    send(NEW)
    assert HfApi(hub.endpoint, TOKEN).whoami()["name"] == NAME.split("/")[0]
    with pytest.raises(RepositoryNotFoundError, match="401"):
        HfApi(hub.endpoint, token=False).model_info(NAME)


def test_an_interrupted_download_goes_on_where_it_stopped(hub, send, waits, tmp_path_factory):
    """The hub serves ranges: of a file cut in the middle only the rest is sent again."""
    send(NEW)
    hub.faults.append(Fault("resolve", "slow", seconds=0.0))  # the question for the file's size
    hub.faults.append(Fault("resolve", "cut_answer"))
    cache = tmp_path_factory.mktemp("cache")
    path = hf_hub_download(NAME, "model.safetensors", endpoint=hub.endpoint, token=TOKEN, cache_dir=cache)
    assert hub.requests.count("resolve") == 3
    assert Path(path).read_bytes() == NEW["model.safetensors"]
