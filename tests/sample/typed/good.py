"""A program that uses the public interface as its users do: it must type-check in strict mode."""

from datetime import timedelta

from pydantic import BaseModel

from delayq import (
    App,
    AppQueue,
    Context,
    Message,
    Receipt,
    Reject,
    Retry,
    RetryLater,
    Stats,
)


class Order(BaseModel):
    n: int


async def corrected(message: Message) -> object:
    return message.body


app = App(redis_url="redis://localhost", namespace="shop")
orders: AppQueue[Order] = app.queue(
    "orders", Order, ordering="key", on_failure="park", retry=Retry(max_deliveries=3)
)
names = app.queue("names", str, ordering="strict", max_backlog=5)
anything = app.queue("anything", on_due=corrected)


@orders.handler(concurrency=4, time_limit_s=2.0)
async def take(order: Order, context: Context) -> None:
    if order.n < 0:
        raise Reject("negative")
    if context.deliveries == 1:
        raise RetryLater(delay_ms=100)
    context.check()


@names.handler()
def greet(name: str, context: Context) -> None:
    print(name.upper(), context.key, context.due.isoformat(), context.remaining())  # noqa: T201


async def main() -> Stats:
    async with app:
        await app.start()
        receipt: Receipt = await orders.publish(Order(n=1), key="k", delay=timedelta(seconds=1))
        await orders.publish_many([Order(n=2), orders.message(Order(n=3), id=receipt.id)])
        await anything.publish({"any": ["json", 1, None]}, delay=0.5)
        return await names.stats()
