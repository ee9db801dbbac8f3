"""The app as a script, and as a Hugging Face Space: settings -> runtime -> tools -> page and chat.

python gradio_app.py                      opens a demo library of real photos
python gradio_app.py --folder ~/Pictures  indexes and opens one's own
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from imgret_tools.errors import ImgretError
from imgret_tools.settings import Settings


def main() -> None:
    """Parse the command line and serve."""
    on_space = bool(os.environ.get("SPACE_ID"))
    parser = argparse.ArgumentParser(description="Image search by picture and by words, as a page.")
    parser.add_argument("--folder", type=Path, help="index this folder first and open it")
    parser.add_argument("--library", default="default", help="its library (default: %(default)s)")
    parser.add_argument(
        "--also", action="append", default=[], help="library that a read-only app shows too; repeatable"
    )
    parser.add_argument("--encoder", help="for a new library: auto, mini or openclip:MODEL/PRETRAINED")
    parser.add_argument(
        "--host", default=os.environ.get("GRADIO_SERVER_NAME") or ("0.0.0.0" if on_space else "127.0.0.1")
    )
    parser.add_argument("--port", type=int, default=int(os.environ.get("GRADIO_SERVER_PORT") or 7860))
    parser.add_argument("--share", action="store_true", help="ask Gradio for a public link; the app is then read-only")
    parser.add_argument("--read-only", action="store_true", default=on_space, help="no indexing, no paths shown")
    parser.add_argument("--allow-writes", action="store_true", help="let a shared app index")
    parser.add_argument("--allow-urls", action="store_true", help="let queries be public URLs")
    parser.add_argument("--auth", metavar="USER:PASS", help="ask every visitor for a login")
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        dest="allow_hosts",
        metavar="NAME",
        help="name of a proxy under which the app is asked; repeatable, * for any",
    )
    given = parser.parse_args()
    try:
        from imgret_tools.ui.app import serve, writable_data_dir

        serve(writable_data_dir(Settings.from_env()), **vars(given))
    except ImgretError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
