"""What can go wrong in fusion; the executor translates it into the platform's errors.

FusionError
├── ExportError            a model cannot become a graph
│   └── InvalidExample         it does not even run on its example inputs
├── GraphError             graph.json is invalid
│   └── UnsupportedOperator    it names an operator outside the whitelist
├── WeightsError           a weights file is invalid or does not fit its graph
├── MemberError            one member of a fused DAG failed; the others did not
├── IntegrityError         rows out are not rows in
├── CaptureError           a run cannot be captured, or is not worth it
└── BudgetExceeded         more bytes are needed than the budget holds
"""


class FusionError(Exception):
    """Something in fusion failed."""


class ExportError(FusionError):
    """A model cannot become a graph; `location` is the user's `file:line` where it is known."""

    def __init__(self, problem: str, what_to_do: str = "", location: str | None = None) -> None:
        self.problem = problem
        self.what_to_do = what_to_do
        self.location = location
        place = f"{location}: " if location else ""
        advice = f". {what_to_do}" if what_to_do else ""
        super().__init__(f"{place}{problem}{advice}")


class InvalidExample(ExportError):
    """Example inputs are none, or forward fails on them: nothing would run it."""


class GraphError(FusionError):
    """graph.json is invalid; `field` is the path of the offending value."""

    def __init__(self, field: str, problem: str) -> None:
        self.field = field
        self.problem = problem
        super().__init__(f"graph.{field}: {problem}")


class UnsupportedOperator(GraphError):
    """A node names an operator outside the whitelist."""

    def __init__(self, field: str, operator: str) -> None:
        self.operator = operator
        super().__init__(field, f"operator {operator!r} is not supported")


class WeightsError(FusionError):
    """A weights file is invalid, or does not fit its graph."""


class MemberError(FusionError):
    """One member of a fused DAG failed on one job; `__cause__` is what torch raised."""

    def __init__(self, member: int, job: int, problem: str) -> None:
        self.member = member
        self.job = job
        self.problem = problem
        super().__init__(f"member {member}, job {job}: {problem}")


class IntegrityError(FusionError):
    """Rows out are not rows in."""


class CaptureError(FusionError):
    """A run cannot be captured as a graph of the device, or is not worth it."""


class BudgetExceeded(FusionError):
    """More bytes are needed than the budget holds."""

    def __init__(self, needed_bytes: int, budget_bytes: int, what: str = "this") -> None:
        self.needed_bytes = needed_bytes
        self.budget_bytes = budget_bytes
        super().__init__(
            f"{what} needs {needed_bytes:,} bytes, the budget holds {budget_bytes:,} bytes"
        )
