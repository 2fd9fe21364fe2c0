"""A web application that publishes, and handles what it published, in one process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from pydantic import BaseModel

from delayq import App, Context

handled: list[str] = []
app = App(namespace="web")


class Reminder(BaseModel):
    text: str


reminders = app.queue("reminders", Reminder)


@reminders.handler()
async def remind(reminder: Reminder, _context: Context) -> None:
    handled.append(reminder.text)


@asynccontextmanager
async def lifespan(_web: FastAPI) -> AsyncIterator[None]:
    async with app:
        await app.start()  # leave this out where other processes handle messages
        yield


web = FastAPI(lifespan=lifespan)


@web.post("/reminders", status_code=202)
async def remember(reminder: Reminder, delay_s: float = 0) -> dict[str, str]:
    receipt = await reminders.publish(reminder, delay=delay_s)
    return {"id": receipt.id}
