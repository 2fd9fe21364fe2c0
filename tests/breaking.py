"""`python -m tests.breaking FOUND PUT WORD…`: verify, where a text in the scripts is another."""

import sys

import anyio
from pydantic_settings import CliApp

from delayq.verify.run import run
from delayq.verify.settings import VerifySettings


def main() -> int:
    found, put, *words = sys.argv[1:]
    outcome = anyio.run(run, CliApp.run(VerifySettings, cli_args=words), (found, put))
    sys.stdout.write(outcome.as_text() + "\n")
    return 0 if outcome.ok else 1


if __name__ == "__main__":
    sys.exit(main())
