"""How readiness, coverage and lengths of a report are printed."""

from typing import Any

_NAMES = {"conversations": "conversations", "training_pairs": "training pairs", "quality": "mean quality"}


def print_readiness(report: dict[str, Any]) -> None:
    """Advice that is not met, what is covered and what is not, how long records are; nothing that is not known."""
    for advice in report.get("readiness", {}).get("advice", []):
        if advice["met"] is False:
            name = _NAMES[advice["name"]]
            print(
                f"  advice  {advice['have']:,} {name}; {advice['wanted']:,} are advised: {advice['missing']:,} missing"
            )
    coverage = report.get("coverage")
    if coverage:
        kinds = (("personas", "personas"), ("arcs", "emotional arcs"), ("topics", "topics"))
        print("  covers  " + ", ".join(f"{len(coverage[key])} {word}" for key, word in kinds))
        for cell in coverage["grid"]:
            if not cell["conversations"]:
                print(f"  gap     no conversation of {cell['persona']} × {cell['arc']}")
    lengths = report.get("lengths")
    if lengths:
        print(
            f"  lengths {lengths['min']:,} to {lengths['max']:,} tokens a record, half under {lengths['p50']:,}, "
            f"95 % under {lengths['p95']:,} ({lengths['source']})"
        )
