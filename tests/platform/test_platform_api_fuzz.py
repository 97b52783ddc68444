"""Every documented operation, asked with what its own schema allows and with what it forbids (Schemathesis).

No answer is a fault of ours, every status is a documented one, every body fits its schema, and both have our envelope.
The examples are the same in every run: a failure here is a failure everywhere.
"""

import re
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode, SerializationContext, checks
from schemathesis.core.failures import FailureGroup
from schemathesis.schemas import APIOperation

from brightrun.accounts.roles import Role
from live import Live, Member

EXAMPLES = 8
"""Cases an operation and mode."""
STREAMS = re.compile("^/api/events$")
CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
CODE = re.compile("[a-z][a-z0-9_]*")


def things_of(live: Live, owner: Member) -> dict[str, str]:
    """An id for each path parameter, so that operations meet what exists. None of them carries the test itself."""
    client = owner.client
    dataset = {"name": "fuzzed", "file_name": "f.jsonl", "file_size": 10}
    invitation = {"email": "fuzz@example.com", "role": "viewer"}
    home = f"/api/workspaces/{owner.workspace_id}"
    return {
        "workspace_id": str(owner.workspace_id),
        "user_id": str(live.new_member(owner.workspace_id, Role.VIEWER).user_id),
        "token_id": client.post("/api/tokens", json={"name": "t", "scopes": ["*"]}).json()["data"]["id"],
        "invitation_id": client.post(f"{home}/invitations", json=invitation).json()["data"]["invitation"]["id"],
        "dataset_id": client.post("/api/datasets", json=dataset).json()["data"]["dataset"]["id"],
    }


def paths_for(operation: APIOperation, things: dict[str, str]) -> Iterator[dict[str, str] | None]:
    """What exists, what does not, and whatever Schemathesis thinks of (None)."""
    names = re.findall(r"\{([^}:]+)", operation.path)
    if names:
        yield {name: things.get(name, str(uuid4())) for name in names}
        yield {name: str(uuid4()) for name in names}
    yield None


def is_json(answer: schemathesis.Response) -> bool:
    return any("json" in kind for kind in answer.headers.get("content-type", []))


@schemathesis.serializer("application/zip")
def as_it_is(_context: SerializationContext, value: Any) -> Any:
    """A file is a body like any other; what is in it may be anything."""
    return value


def require_envelope(answer: schemathesis.Response) -> None:
    """The one shape of success and the one shape of failure."""
    if answer.status_code == 307 or (answer.status_code == 200 and not is_json(answer)):
        return  # sent on to a file, or a file itself, whose type the document tells
    body = answer.json()
    if answer.status_code < 300:
        assert body.keys() == {"success", "data"}, body
        assert body["success"] is True
        return
    assert body.keys() <= {"error", "code", "details"}, body
    assert body["error"].strip(), "a failure is told in words"
    assert CODE.fullmatch(body["code"]), body["code"]
    assert "Traceback" not in body["error"]
    if body["code"] == "validation_error":
        assert body.get("details"), "the fields are named"
        assert all(isinstance(said, list) for said in body["details"].values())


def ask(case: Case, session: requests.Session, extra: list[checks.CheckFunction]) -> list[str]:
    """What is wrong with the answer; empty for a good one."""
    answer = case.call(session=session, allow_redirects=False)
    asked = f"{case.as_curl_command()}\n    → {answer.status_code} {answer.text[:500]}"
    found = []
    try:
        case.validate_response(answer, checks=[*CHECKS, *extra])
    except FailureGroup as group:
        found.extend(f"{failure}\n    {asked}" for failure in group.exceptions)
    try:
        require_envelope(answer)
    except (AssertionError, ValueError, AttributeError) as error:
        found.append(f"envelope: {error}\n    {asked}")
    return found


def faults_of(
    operation: APIOperation, mode: GenerationMode, paths: list[dict[str, str] | None], session: requests.Session
) -> list[str]:
    extra = [checks.negative_data_rejection] if mode is GenerationMode.NEGATIVE else []
    faults: list[str] = []

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=st.one_of([operation.as_strategy(generation_mode=mode, path_parameters=path) for path in paths]))
    def examples(case: Case) -> None:
        faults.extend(ask(case, session, extra))

    try:
        examples()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE, f"{operation.label} could not be asked"  # it takes nothing to get wrong
    return faults


@pytest.mark.slow
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
def test_every_operation_answers_as_documented(live: Live, owner: Member, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_url(f"{live.url}/api/openapi.json").exclude(path_regex=STREAMS.pattern)
    things = things_of(live, owner)
    told = []
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {owner.token}"
        for result in schema.get_all_operations():
            operation = result.ok()
            faults = faults_of(operation, mode, list(paths_for(operation, things)), session)
            if faults:
                told.append(f"{operation.label}: {len(faults)} faults, the first:\n  {faults[0]}")
    assert not told, "\n\n".join(told)
