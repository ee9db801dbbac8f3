"""`python -m imgret_tools.chat "..."`: one question, or a talk when there is none."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from imgret_tools import ImageTools, ImgretError, Runtime, Settings
from imgret_tools.chat.events import Answered, Called, Said, Working
from imgret_tools.chat.models import make_model
from imgret_tools.chat.talk import Chat
from imgret_tools.records import quoted


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chat; 0 when all was answered, 1 when something was refused, as one line on stderr."""
    parser = argparse.ArgumentParser(prog="python -m imgret_tools.chat", description="Chat with your pictures.")
    parser.add_argument("question", nargs="*", help="what to ask; without it, a talk line by line")
    parser.add_argument("--model", help="provider:model (default: IMGRET_MODEL, else the offline model)")
    parser.add_argument("--with-images", action="store_true", help="let the model see thumbnails of what it found")
    given = parser.parse_args(arguments)
    settings = Settings.from_env()
    try:
        model = make_model(settings.model if given.model is None else given.model)
        with Runtime.open(settings) as runtime:
            chat = Chat(ImageTools(runtime), model, with_images=given.with_images)
            if given.question:
                answer(chat, " ".join(given.question))
            else:
                talk(chat)
    except ImgretError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def talk(chat: Chat, read: Callable[[str], str] = input) -> None:
    """Answer line by line until the input ends; what goes wrong in a turn ends only that turn."""
    while True:
        try:
            question = read("> ")
        except EOFError:
            return
        if question.strip():
            try:
                answer(chat, question)
            except ImgretError as error:
                print(error, file=sys.stderr)


def answer(chat: Chat, question: str) -> None:
    """One turn on the terminal: the answer on stdout, tool calls on stderr as they happen."""
    for event in chat.ask(question):
        match event:
            case Said(text):
                print(text, end="", flush=True)
            case Called(_, name, arguments):
                given = ", ".join(f"{key}={quoted(str(value), 80)}" for key, value in arguments.items())
                print(f"[{name}({given})]", file=sys.stderr, flush=True)
            case Working(_, at):
                if sys.stderr.isatty():
                    print(f"\r\x1b[K[{at.stage}: {at.done} of {at.total}]", end="", file=sys.stderr, flush=True)
            case Answered(_, _, text, _, failed):
                if sys.stderr.isatty():
                    print("\r\x1b[K", end="", file=sys.stderr)
                print(f"[{'refused: ' if failed else ''}{text.splitlines()[0]}]", file=sys.stderr, flush=True)
    print()


if __name__ == "__main__":
    sys.exit(main())
