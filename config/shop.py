"""The app that compose.yaml and delayq@.service run: put yours in its place."""

import anyio

from delayq import App, Context

app = App()
orders = app.queue("orders", ordering="key")


@orders.handler()
async def book(order: dict[str, int], context: Context) -> None:
    """Handle an order."""
    await anyio.sleep(0.05)
    print(f"{app.name} booked {order} of {context.key}", flush=True)
