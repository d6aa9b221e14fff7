"""The files around the code agree with it: continuous integration, hooks, templates, citation, changelog."""

import re

import pytest
import yaml

PAPERS = {"2210.01936", "2306.08832", "2504.16801", "2405.17871", "2409.08206"}


@pytest.fixture(scope="module")
def read(repository):
    """Read a YAML file of the repository."""
    return lambda name: yaml.safe_load((repository / name).read_text(encoding="utf-8"))


def commands(job: dict) -> list[str]:
    return [step["run"] for step in job["steps"] if "run" in step]


def test_the_workflow_runs_exactly_the_two_commands(read):
    workflow = read(".github/workflows/ci.yml")
    assert {"push", "pull_request"} <= workflow[True].keys()  # YAML reads the key `on` as true
    job = workflow["jobs"]["commands"]
    assert commands(job) == ["make demo", "make test"]
    assert job["runs-on"].startswith("ubuntu")
    assert job["strategy"]["matrix"]["python"] == ["3.10", "3.12"]


def test_other_systems_import_the_package_and_run_tests_that_exist(read, repository):
    job = read(".github/workflows/ci.yml")["jobs"]["smoke"]
    assert {name.partition("-")[0] for name in job["strategy"]["matrix"]["os"]} == {"macos", "windows"}
    lines = "\n".join(commands(job))
    assert 'python -c "import compalign"' in lines
    tests = re.findall(r"\btests/\S+", lines)
    assert tests
    assert [name for name in tests if not (repository / name).is_file()] == []


def test_workflows_call_targets_of_the_makefile(read, repository):
    targets = set(re.findall(r"^([a-z]+):", (repository / "Makefile").read_text(), flags=re.MULTILINE))
    for path in (repository / ".github" / "workflows").glob("*.yml"):
        jobs = read(path.relative_to(repository))["jobs"].values()
        called = {command.split()[1] for job in jobs for command in commands(job) if command.startswith("make ")}
        assert called <= targets, path


def test_hooks_use_the_pinned_ruff(read, repository):
    (pin,) = re.findall(r"^ruff==(.+)$", (repository / "constraints.txt").read_text(), flags=re.MULTILINE)
    (repo,) = read(".pre-commit-config.yaml")["repos"]
    assert repo["rev"] == f"v{pin}"
    assert [hook["id"] for hook in repo["hooks"]] == ["ruff-check", "ruff-format"]


def test_the_citation_names_the_package_and_the_five_papers(read, repository):
    citation = read("CITATION.cff")
    assert {"cff-version", "title", "message", "authors"} <= citation.keys()
    assert citation["cff-version"] == "1.2.0"
    assert citation["authors"] == [{"name": "compalign contributors"}]
    assert f'version="{citation["version"]}"' in (repository / "setup.py").read_text()
    references = citation["references"]
    assert all({"type", "title", "authors"} <= reference.keys() for reference in references)
    cited = {identifier["value"] for reference in references for identifier in reference["identifiers"]}
    assert cited == {f"arXiv:{paper}" for paper in PAPERS}
    assert {reference["url"].rpartition("/")[2] for reference in references} == PAPERS


def test_the_changelog_begins_with_what_is_unreleased_and_has_the_version(repository):
    text = (repository / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## \[(.+?)\]", text, flags=re.MULTILINE)
    assert headings[0] == "Unreleased"
    (version,) = re.findall(r'version="(.+?)"', (repository / "setup.py").read_text())
    assert version in headings


@pytest.mark.parametrize("template", ["bug", "feature"])
def test_issue_templates_are_forms(read, template):
    form = read(f".github/ISSUE_TEMPLATE/{template}.yml")
    assert {"name", "description", "body"} <= form.keys()
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in fields}) == len(fields)
    assert any(field.get("validations", {}).get("required") for field in fields)
