"""An orders API: routing, validation and structured logs by AWS Lambda Powertools."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler import APIGatewayRestResolver
from aws_lambda_powertools.utilities.typing import LambdaContext
from pydantic import BaseModel, PositiveInt

logger = Logger(service="orders")
app = APIGatewayRestResolver(enable_validation=True)


class Order(BaseModel):
    """What a customer sends."""

    item: str
    quantity: PositiveInt


@app.get("/health")
def health() -> dict[str, str]:
    """Say that the function is up."""
    return {"status": "ok"}


@app.post("/orders")
def create_order(order: Order) -> dict[str, Any]:
    """Take an order."""
    logger.info("order received", extra={"item": order.item})
    return {"accepted": True, "item": order.item, "quantity": order.quantity}


def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer one request of API Gateway."""
    return app.resolve(event, context)
