"""Publishes orders and reminders, and prints the ids.

Run as a program of its own: each line that it reads says how many orders to publish next.
"""

import asyncio
import json
import random
import sys

from tests.sample.shop import Order, Reminder, app, orders, reminders


async def main(seed: int) -> None:
    chance = random.Random(seed)
    published: dict[str, list[str]] = {"orders": [], "reminders": []}
    n = 0
    async with app:
        while line := await asyncio.to_thread(sys.stdin.readline):
            for n in range(n, n + int(line)):  # noqa: B020 - goes on counting
                fails = 2 if chance.random() < 0.1 else 0
                key = f"customer-{chance.randrange(5)}"
                receipt = await orders.publish(Order(n=n, fails=fails), key=key)
                published["orders"].append(receipt.id)
                if n % 3 == 0:
                    delay = chance.uniform(0.05, 1.5)
                    reminder = await reminders.publish(Reminder(n=n), delay=delay)
                    published["reminders"].append(reminder.id)
            n += 1
    print(json.dumps(published))  # noqa: T201 - for whoever reads it


asyncio.run(main(int(sys.argv[1])))
