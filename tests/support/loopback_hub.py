"""A Hub on this machine: a real HTTP server whose repositories live in memory, and which fails where it is told to.

    with LoopbackHub() as hub:
        hub.faults.append(Fault("commit", "cut_after"))
        HfApi(endpoint=hub.endpoint, token=TOKEN).create_repo("me/model")

A repository is a set of commits, named by the hash of what they hold; a commit appears whole or not at all.
"""

import base64
import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import unquote

import pytest
import yaml
from faulty_http import Answer, Fault, FaultyHandler, Request, json_answer

USER = "me"
TOKEN = "hf_" + "loopback"  # any text will do; in two parts, lest a scan for secrets finds it
LFS_ENDINGS = (".safetensors", ".png", ".bin")
CREATED = "2026-01-01T00:00:00.000Z"


class Refusal(Exception):
    """An error as the Hub words it: a status, a code in a header, a message."""

    def __init__(self, status: int, message: str, code: str | None = None):
        super().__init__(message)
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self.answer = json_answer({"error": message}, status, headers)


@dataclass(frozen=True)
class Stored:
    """One version of one file."""

    content: bytes
    lfs: bool = False

    @property
    def sha256(self) -> str:
        """What LFS names it."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def git_oid(self) -> str:
        """What git names it; for an LFS file, the pointer to it."""
        content = self.content
        if self.lfs:
            content = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(content)}\n"
            content = content.encode()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

    def entry(self, path: str) -> dict[str, Any]:
        """How a listing shows it."""
        lfs = {"oid": self.sha256, "size": len(self.content), "pointerSize": 134}
        entry = {"type": "file", "path": path, "oid": self.git_oid, "size": len(self.content)}
        return entry | ({"lfs": lfs} if self.lfs else {})


class Commit(NamedTuple):
    """Everything a revision holds."""

    parent: str | None
    title: str
    files: dict[str, Stored]

    @property
    def oid(self) -> str:
        """Its name: a hash of its content, its title and its parent."""
        files = sorted((path, stored.git_oid) for path, stored in self.files.items())
        return hashlib.sha1(json.dumps([self.parent, self.title, files]).encode()).hexdigest()


@dataclass
class Repository:
    """Commits, and the names that point to them."""

    name: str
    private: bool
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rules = "".join(f"*{ending} filter=lfs\n" for ending in LFS_ENDINGS).encode()
        self.add("main", Commit(None, "initial commit", {".gitattributes": Stored(rules)}))

    def add(self, branch: str, commit: Commit) -> str:
        """Put a commit on a branch."""
        self.commits[commit.oid] = commit
        self.branches[branch] = commit.oid
        return commit.oid

    def resolve(self, revision: str) -> str:
        """The commit that a branch, a tag or a commit's own name means."""
        found = self.branches.get(revision) or self.tags.get(revision) or revision
        if found not in self.commits:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return found

    def files(self, revision: str = "main") -> dict[str, bytes]:
        """Content of every file of a revision."""
        return {path: stored.content for path, stored in self.commits[self.resolve(revision)].files.items()}


TYPE, NAME = r"(?P<type>model|dataset|space)s", r"(?P<name>[^/]+/[^/]+)"
REPOSITORY = f"/api/{TYPE}/{NAME}"
ROUTES = {
    "whoami": ("GET", "/api/whoami-v2"),
    "create_repo": ("POST", "/api/repos/create"),
    "delete_repo": ("DELETE|POST", "/api/repos/delete"),
    "validate": ("POST", "/api/validate-yaml"),
    "info": ("GET", f"{REPOSITORY}(?:/revision/(?P<revision>[^/]+))?"),
    "refs": ("GET", f"{REPOSITORY}/refs"),
    "commits": ("GET", f"{REPOSITORY}/commits/(?P<revision>[^/]+)"),
    "tree": ("GET", f"{REPOSITORY}/tree/(?P<revision>[^/]+)(?:/(?P<path>.+))?"),
    "paths_info": ("POST", f"{REPOSITORY}/paths-info/(?P<revision>[^/]+)"),
    "create_branch": ("POST", f"{REPOSITORY}/branch/(?P<revision>[^/]+)"),
    "delete_branch": ("DELETE", f"{REPOSITORY}/branch/(?P<revision>[^/]+)"),
    "create_tag": ("POST", f"{REPOSITORY}/tag/(?P<revision>[^/]+)"),
    "delete_tag": ("DELETE", f"{REPOSITORY}/tag/(?P<revision>[^/]+)"),
    "preupload": ("POST", f"{REPOSITORY}/preupload/(?P<revision>[^/]+)"),
    "commit": ("POST", f"{REPOSITORY}/commit/(?P<revision>[^/]+)"),
    "lfs_batch": ("POST", f"/(?:(?P<prefix>datasets|spaces)/)?{NAME}\\.git/info/lfs/objects/batch"),
    "lfs_verify": ("POST", "/lfs/verify"),
    "lfs_put": ("PUT", "/lfs/(?P<sha256>[0-9a-f]{64})"),
    "resolve": (
        "GET|HEAD",
        f"/(?:(?P<prefix>datasets|spaces)/)?{NAME}/resolve/(?P<revision>[^/]+)/(?P<path>.+)",
    ),
}


class LoopbackHub:
    """The server; a context manager.

    Attributes:
        endpoint (`str`): Where it listens.
        repositories (`dict[str, Repository]`): By name; a dataset's name begins with "datasets/".
        faults (`list[Fault]`): Each meets the first request of its route, and is then taken off the list.
        injected (`list[Fault]`): Those that have.
        requests (`list[str]`): Routes asked for, in order.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.faults: list[Fault] = []
        self.injected: list[Fault] = []
        self.requests: list[str] = []
        self.arrived: dict[str, bytes] = {}  # LFS content that is not verified yet
        self.blobs: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), FaultyHandler)
        self._server.daemon_threads = True
        self._server.site = self
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "LoopbackHub":
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def take_fault(self, route: str) -> Fault | None:
        """Note a request, and return what shall go wrong with it."""
        with self._lock:
            self.requests.append(route)
            fault = next((fault for fault in self.faults if fault.route == route), None)
            if fault is not None:
                self.faults.remove(fault)
                self.injected.append(fault)
            return fault

    @staticmethod
    def find_route(method: str, path: str) -> tuple[str, dict[str, str]] | None:
        """The route of a request and its groups."""
        for route, (methods, pattern) in ROUTES.items():
            found = re.fullmatch(pattern, path)
            if found and method in methods.split("|"):
                return route, {name: value and unquote(value) for name, value in found.groupdict().items()}
        return None

    def serve(self, request: Request) -> Answer:
        """Do what a request asks for, one at a time."""
        with self._lock:
            try:
                return getattr(self, f"_{request.route}")(request)
            except Refusal as refusal:
                return refusal.answer

    def _repository(self, request: Request) -> Repository:
        """The repository of a request; a private one does not exist for strangers."""
        group = request.group
        kind = group.get("prefix") or (f"{group['type']}s" if group.get("type", "model") != "model" else "")
        found = self.repositories.get(f"{kind}/{group['name']}" if kind else group["name"])
        if found is None or (found.private and not _known(request)):
            raise Refusal(404 if _known(request) else 401, "Repository not found", "RepoNotFound")
        if request.method in ("POST", "DELETE") and request.route != "paths_info" and not _known(request):
            raise Refusal(401, "Invalid username or password.")
        return found

    def _whoami(self, request: Request) -> Answer:
        if not _known(request):
            raise Refusal(401, "Invalid username or password.")
        return json_answer({"type": "user", "name": USER, "fullname": USER, "email": None, "orgs": [], "auth": {}})

    def _create_repo(self, request: Request) -> Answer:
        if not _known(request):
            raise Refusal(401, "Invalid username or password.")
        asked = request.json
        short = f"{asked.get('organization') or USER}/{asked['name']}"
        kind = asked.get("type", "model")
        name = short if kind == "model" else f"{kind}s/{short}"
        url = f"{self.endpoint}/{name}"
        if name in self.repositories:
            return json_answer({"error": "You already created this repo", "url": url}, 409)
        private = asked.get("visibility") == "private" or asked.get("private") is True
        self.repositories[name] = Repository(short, private)
        return json_answer({"url": url, "name": short, "id": short})

    def _delete_repo(self, request: Request) -> Answer:
        asked = request.json
        kind, name = asked.get("type", "model"), f"{asked.get('organization') or USER}/{asked['name']}"
        if self.repositories.pop(name if kind == "model" else f"{kind}s/{name}", None) is None:
            raise Refusal(404, "Repository not found", "RepoNotFound")
        return json_answer({})

    def _validate(self, request: Request) -> Answer:
        header = re.match(r"---\n(.*?)\n---", request.json["content"], re.DOTALL)
        if header is None:
            return json_answer({"errors": [], "warnings": [{"message": "empty or missing yaml metadata"}]})
        try:
            yaml.safe_load(header[1])
        except yaml.YAMLError as error:
            return json_answer({"errors": [{"message": str(error)}], "warnings": []}, 400)
        return json_answer({"errors": [], "warnings": []})

    def _info(self, request: Request) -> Answer:
        repository = self._repository(request)
        sha = repository.resolve(request.group["revision"] or "main")
        files = [{"rfilename": path} for path in repository.commits[sha].files]
        content = {"id": repository.name, "modelId": repository.name, "sha": sha, "siblings": files, "tags": []}
        return json_answer(content | {"private": repository.private, "lastModified": CREATED, "createdAt": CREATED})

    def _refs(self, request: Request) -> Answer:
        repository = self._repository(request)

        def listed(names: dict[str, str], folder: str) -> list[dict[str, str]]:
            return [{"name": n, "ref": f"refs/{folder}/{n}", "targetCommit": oid} for n, oid in names.items()]

        branches, tags = listed(repository.branches, "heads"), listed(repository.tags, "tags")
        return json_answer({"branches": branches, "tags": tags, "converts": []})

    def _commits(self, request: Request) -> Answer:
        repository = self._repository(request)
        return json_answer(
            [
                {"id": oid, "title": commit.title, "message": "", "date": CREATED, "authors": [{"user": USER}]}
                for oid, commit in self.history(repository, request.group["revision"])
            ]
        )

    def history(self, repository: Repository, revision: str = "main") -> Iterator[tuple[str, Commit]]:
        """Commits of a revision, the newest first."""
        oid: str | None = repository.resolve(revision)
        while oid is not None:
            yield oid, repository.commits[oid]
            oid = repository.commits[oid].parent

    def _tree(self, request: Request) -> Answer:
        repository, folder = self._repository(request), request.group["path"]
        files = repository.commits[repository.resolve(request.group["revision"])].files
        inside = {path: f for path, f in files.items() if folder is None or path.startswith(f"{folder}/")}
        if folder is not None and not inside:
            raise Refusal(404, f"{folder} does not exist", "EntryNotFound")
        folders = {str(parent) for path in inside for parent in PurePosixPath(path).parents} - {".", folder}
        listed = [{"type": "directory", "path": path, "oid": "0" * 40, "size": 0} for path in sorted(folders)]
        return json_answer(listed + [stored.entry(path) for path, stored in inside.items()])

    def _paths_info(self, request: Request) -> Answer:
        repository = self._repository(request)
        files = repository.commits[repository.resolve(request.group["revision"])].files
        return json_answer([files[path].entry(path) for path in request.json["paths"] if path in files])

    def _create_branch(self, request: Request) -> Answer:
        repository, branch = self._repository(request), request.group["revision"]
        if branch in repository.branches:
            raise Refusal(409, f"Reference {branch} already exists")
        repository.branches[branch] = repository.resolve(request.json.get("startingPoint", "main"))
        return json_answer({}, 201)

    def _create_tag(self, request: Request) -> Answer:
        repository, tag = self._repository(request), request.json["tag"]
        if tag in repository.tags:
            raise Refusal(409, f"Tag {tag} already exists")
        repository.tags[tag] = repository.resolve(request.group["revision"])
        return json_answer({}, 201)

    def _delete_branch(self, request: Request) -> Answer:
        return self._delete_name(self._repository(request).branches, request)

    def _delete_tag(self, request: Request) -> Answer:
        return self._delete_name(self._repository(request).tags, request)

    def _delete_name(self, names: dict[str, str], request: Request) -> Answer:
        if names.pop(request.group["revision"], None) is None:
            raise Refusal(404, "no such reference", "RevisionNotFound")
        return json_answer({})

    def _preupload(self, request: Request) -> Answer:
        repository = self._repository(request)
        files = repository.commits[repository.resolve(request.group["revision"])].files
        answers = []
        for file in request.json["files"]:
            path = file["path"]
            answer = {"path": path, "uploadMode": "lfs" if path.endswith(LFS_ENDINGS) else "regular"}
            if path in files:
                answer["oid"] = files[path].sha256 if files[path].lfs else files[path].git_oid
            answers.append(answer | {"shouldIgnore": False})
        return json_answer({"files": answers})

    def _lfs_batch(self, request: Request) -> Answer:
        self._repository(request)
        answers = []
        for item in request.json["objects"]:
            actions = {"upload": {"href": f"{self.endpoint}/lfs/{item['oid']}"}}
            actions["verify"] = {"href": f"{self.endpoint}/lfs/verify"}
            answers.append(item if item["oid"] in self.blobs else item | {"actions": actions})
        return json_answer({"transfer": "basic", "objects": answers})

    def _lfs_put(self, request: Request) -> Answer:
        self.arrived[request.group["sha256"]] = request.body
        return Answer(200, b"", {})

    def _lfs_verify(self, request: Request) -> Answer:
        oid = request.json["oid"]
        if oid in self.blobs:
            return json_answer({})
        content = self.arrived.pop(oid, b"")
        if hashlib.sha256(content).hexdigest() != oid or len(content) != request.json["size"]:
            raise Refusal(422, f"content of LFS object {oid} does not have this sha256")
        self.blobs[oid] = content
        return json_answer({})

    def _commit(self, request: Request) -> Answer:
        repository, branch = self._repository(request), request.group["revision"]
        if branch not in repository.branches:
            raise Refusal(404, f"Invalid rev id: {branch}", "RevisionNotFound")
        head = repository.branches[branch]
        header, *operations = (json.loads(line) for line in request.body.splitlines() if line.strip())
        if header["value"].get("parentCommit", head) != head:
            raise Refusal(412, "A commit has happened since. Please refresh and try again.")
        files = dict(repository.commits[head].files)
        for operation in operations:
            self._apply(files, operation["key"], operation["value"])
        oid = repository.add(branch, Commit(head, header["value"]["summary"], files))
        url = f"{self.endpoint}/{repository.name}/commit/{oid}"
        return json_answer({"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": ""})

    def _apply(self, files: dict[str, Stored], key: str, value: dict[str, str]) -> None:
        """Do one operation of a commit."""
        path = value["path"]
        if key == "file":
            files[path] = Stored(base64.b64decode(value["content"], validate=True))
        elif key == "lfsFile":
            if value["oid"] not in self.blobs:
                raise Refusal(400, f"LFS object of {path} was not uploaded")
            files[path] = Stored(self.blobs[value["oid"]], lfs=True)
        elif key in ("deletedFile", "deletedFolder"):
            gone = [name for name in files if name == path or name.startswith(f"{path.rstrip('/')}/")]
            if not gone:
                raise Refusal(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
            for name in gone:
                del files[name]
        else:
            raise Refusal(400, f"unknown operation {key}")

    def _resolve(self, request: Request) -> Answer:
        repository, path = self._repository(request), request.group["path"]
        sha = repository.resolve(request.group["revision"])
        commit = {"X-Repo-Commit": sha}
        stored = repository.commits[sha].files.get(path)
        if stored is None:
            return json_answer({}, 404, commit | {"X-Error-Code": "EntryNotFound"})
        content = stored.content
        headers = {**commit, "ETag": f'"{stored.git_oid}"', "Accept-Ranges": "bytes"}
        if stored.lfs:
            headers |= {"X-Linked-ETag": f'"{stored.sha256}"', "X-Linked-Size": str(len(content))}
        if asked := re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", "")):
            start, end = int(asked[1]), min(int(asked[2] or len(content) - 1), len(content) - 1)
            headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
            return Answer(206, content[start : end + 1], headers)
        return Answer(200, content, headers)


@contextmanager
def reachable_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """A hub that this process may ask, though the tests are offline."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    with LoopbackHub() as hub:
        yield hub


def environment(hub: LoopbackHub, home: str) -> dict[str, str]:
    """The variables of a process that shall take this hub for the real one."""
    ours = {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": TOKEN, "HF_HOME": home, "HF_HUB_DISABLE_XET": "1"}
    return {name: value for name, value in os.environ.items() if name not in ("HF_HUB_OFFLINE", "PYTHONPATH")} | ours


def _known(request: Request) -> bool:
    """Whether a request carries the token."""
    return request.headers.get("Authorization") == f"Bearer {TOKEN}"
