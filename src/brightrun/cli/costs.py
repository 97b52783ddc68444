"""`brightrun costs …`: what was spent, and the budget of the month, from a terminal."""

from typing import Annotated, Any

import typer

from brightrun.cli.remote import JsonOption, TokenOption, UrlOption, connect, show, table

app = typer.Typer(no_args_is_help=True, help="What was spent, and the budget of the month.")


@app.command("show")
def show_(
    period: Annotated[str, typer.Option(help="week, month or year: the last 7, 30 or 365 days.")] = "month",
    url: UrlOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sums of recorded charges: in all, by type, by job, by dataset, by preset."""
    with connect(url, token) as client:
        costs = client.costs.summary(period=period)
    show(costs, as_json=as_json, text=lambda: _print_costs(costs))


@app.command()
def budget(
    limit: Annotated[str | None, typer.Option(help="A new limit in US dollars a month; `none` for no limit.")] = None,
    reason: Annotated[str | None, typer.Option(help="Kept in the audit log.")] = None,
    url: UrlOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the budget of this month, or change it (owners and admins)."""
    with connect(url, token) as client:
        if limit is None:
            told = client.costs.budget()
        else:
            told = client.costs.set_budget(None if limit == "none" else limit, reason=reason)
    show(told, as_json=as_json, text=lambda: _print_budget(told))


def _print_costs(costs: dict[str, Any]) -> None:
    print(f"${float(costs['total_cost']):.2f} from {costs['start_date']} to {costs['end_date']}, UTC")
    columns = {
        "job": lambda row: row["name"],
        "charges": lambda row: str(row["charges"]),
        "amount": lambda row: f"${float(row['amount']):.4f}",
    }
    if costs["by_job"]:
        table(columns, costs["by_job"])


def _print_budget(told: dict[str, Any]) -> None:
    used = float(told["spent_usd"]) + float(told["accrued_usd"])
    limit = told["monthly_limit_usd"]
    print(f"${used:.2f} of {'no limit' if limit is None else f'${float(limit):.2f}'} this month")
    print(f"  up to ${float(told['committed_usd']):.2f} on their way", end="")
    print("" if told["remaining_usd"] is None else f", ${float(told['remaining_usd']):.2f} left to begin something new")
