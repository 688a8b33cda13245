"""A data function: reads rows from the event, answers with a summary."""

from __future__ import annotations

from typing import Any

import pandas as pd


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Sum `amount` by `region`."""
    rows = pd.DataFrame(event["rows"])
    return {str(region): float(total) for region, total in rows.groupby("region")["amount"].sum().items()}
