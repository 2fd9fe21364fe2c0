"""A mutant: what is changed in the package, and the test that has to notice."""

from dataclasses import dataclass
from pathlib import Path


class AnchorLost(Exception):
    """Raised when the text to change is not there exactly once: the mutant needs another one."""


@dataclass(frozen=True, slots=True)
class Edit:
    """A text of one file, which is there once, and what it is replaced by."""

    file: str
    """Inside the package."""
    anchor: str
    instead: str = ""

    def applied(self, text: str) -> str:
        """Return the file's text, changed.

        :raises AnchorLost: if the anchor is not there exactly once
        """
        if (found := text.count(self.anchor)) != 1:
            raise AnchorLost(f"{self.file}: {self.anchor!r} is there {found} times, not once")
        return text.replace(self.anchor, self.instead)


@dataclass(frozen=True, slots=True)
class Mutant:
    """A fault that a careless change might bring in."""

    name: str
    killer: str
    """The id of a test, inside `tests/`."""
    edits: tuple[Edit, ...]

    def changed(self, package: Path) -> dict[str, str]:
        """Return the new text of each file that is changed.

        :raises AnchorLost: if the package is not as the mutant knows it
        """
        texts: dict[str, str] = {}
        for edit in self.edits:
            text = texts.get(edit.file) or (package / edit.file).read_text("utf-8")
            try:
                texts[edit.file] = edit.applied(text)
            except AnchorLost as error:
                raise AnchorLost(f"{self.name}: {error}") from None
        return texts

    def plant(self, package: Path) -> None:
        """Change a copy of the package.

        :raises AnchorLost: if the package is not as the mutant knows it
        """
        for file, text in self.changed(package).items():
            (package / file).write_text(text, "utf-8")


def mutant(name: str, killer: str, *edits: tuple[str, ...]) -> Mutant:
    """Make a mutant; an edit is file, anchor, and what stands there instead, by default nothing."""
    return Mutant(name, killer, tuple(Edit(*edit) for edit in edits))
