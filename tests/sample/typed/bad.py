"""What a type checker must flag: each line that is wrong says so, and no other line is."""

from pydantic import BaseModel

from delayq import App, Context


class Order(BaseModel):
    n: int


app = App(redis_url="redis://localhost")
orders = app.queue("orders", Order)
names = app.queue("names", str)


@orders.handler()  # WRONG
async def takes_another_body(body: str, _context: Context) -> None:
    body.upper()


@names.handler()  # WRONG
async def takes_no_context(name: str) -> None:
    name.upper()


@names.handler()  # WRONG
async def returns_something(name: str, _context: Context) -> str:
    return name


async def main() -> None:
    await orders.publish("no order")  # WRONG
    await names.publish(Order(n=1))  # WRONG
    await names.publish("a", delay="soon")  # WRONG
    orders.message({"n": 1})  # WRONG
    app.queue("more", ordering="sorted")  # WRONG
    app.queue("other", on_failure="ignore")  # WRONG
    await orders.publish(Order(n=1), priority=3)  # WRONG
