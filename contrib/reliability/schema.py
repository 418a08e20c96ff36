"""The API's own description (`/openapi.json`), held against what the mint answers: schemathesis makes requests from it,
good and bad ones, and checks every answer."""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contrib.reliability.report import Report
from tests.plugin.harness import Mint

if TYPE_CHECKING:
    from schemathesis import APIOperation, Case, GenerationMode

EXAMPLES = 10
"""Of each kind and operation, in one round."""
MAX_FINDINGS = 50
REFUSALS = (400, 429, 503)
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
)


@dataclass
class Count:
    """What was asked of one operation, and how it answered."""

    requests: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    failures: dict[str, str] = field(default_factory=dict)


def run(budget_s: float) -> Report:
    """Ask for as long as the budget allows, at least one round. Raises RuntimeError if schemathesis is missing."""
    if importlib.util.find_spec("schemathesis") is None:
        raise RuntimeError("this needs schemathesis: .venv/bin/pip install -e '.[fuzz]'")
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="nutbolt-schema-") as directory:
        mint = Mint(Path(directory))
        mint.start()
        try:
            counts: dict[str, Count] = {}
            rounds = 0
            while not rounds or time.monotonic() - begun < budget_s:
                examine(mint, counts, EXAMPLES, seed=rounds)
                rounds += 1
            findings = [
                f"{operation}: {name}: {text}"
                for operation in counts
                for name, text in counts[operation].failures.items()
            ]
            try:
                mint.check()
            except AssertionError as error:
                findings.append(f"the log or the books: {str(error)[:500]}")
        finally:
            mint.stop()
    statuses = sum((count.statuses for count in counts.values()), Counter[int]())
    return Report(
        title="The API as it describes itself",
        what=(
            "Requests made by schemathesis from the mint's own OpenAPI document, half of them well-formed, half of "
            "them broken in one place. Checked of each answer: no server error, a status, type and form that the "
            "document names, 4xx for what is malformed, and every refusal is {detail, code}. The log and the books are "
            "checked at the end."
        ),
        figures={
            "operations": len(counts),
            "requests": sum(count.requests for count in counts.values()),
            "granted (200)": statuses[200],
            "refused": sum(statuses[status] for status in REFUSALS),
            "server errors": sum(count for status, count in statuses.items() if status >= 500 and status != 503),
            "answers that were not as described": len(findings),
        },
        losses=len(findings),
        findings=tuple(findings[:MAX_FINDINGS]),
        columns=("operation", "requests", "granted", "refused"),
        rows=[
            (name, str(count.requests), str(count.statuses[200]), str(count.requests - count.statuses[200]))
            for name, count in sorted(counts.items())
        ],
    )


def examine(mint: Mint, counts: dict[str, Count], examples: int, seed: int, description: Any = None) -> None:
    """One round over all operations; adds to `counts`, by operation. `description`: instead of the mint's own."""
    from schemathesis import GenerationMode, openapi  # noqa: PLC0415 - not on every machine
    from schemathesis.core.result import Ok  # noqa: PLC0415

    document = openapi.from_dict(description or mint.http.get("/openapi.json").json())
    for found in document.get_all_operations():
        assert isinstance(found, Ok), found
        operation = found.ok()
        count = counts.setdefault(operation.label, Count())
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            _ask(operation, mode, _judge(mint, count), examples, seed)


def _ask(
    operation: APIOperation[Any, Any, Any, Any],
    mode: GenerationMode,
    judge: Callable[[Case[Any]], None],
    examples: int,
    seed: int,
) -> None:
    import hypothesis  # noqa: PLC0415
    from hypothesis.errors import Unsatisfiable  # noqa: PLC0415

    asked = hypothesis.given(case=operation.as_strategy(generation_mode=mode))(judge)
    asked = hypothesis.seed(seed)(asked)
    asked = hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )(asked)
    with suppress(Unsatisfiable):  # nothing can be malformed where nothing is asked for
        asked()


def _judge(mint: Mint, count: Count) -> Callable[[Case[Any]], None]:
    from schemathesis import checks  # noqa: PLC0415

    checks.load_all_checks()
    chosen: list[Any] = checks.CHECKS.get_by_names(CHECKS)

    def judge(case: Case[Any]) -> None:
        response = case.call(base_url=mint.url)
        count.requests += 1
        count.statuses[response.status_code] += 1
        try:
            case.validate_response(response, checks=chosen)
            if response.status_code != 200:
                _require_refusal(response.json())
        except (Exception, BaseExceptionGroup) as error:  # schemathesis raises groups
            count.failures.setdefault(type(error).__name__, " ".join(str(error).split())[:1000])

    return judge


def _require_refusal(body: Any) -> None:
    if not isinstance(body, dict) or set(body) != {"detail", "code"} or type(body["code"]) is not int:
        raise AssertionError(f"not the form of a refusal: {body}")
