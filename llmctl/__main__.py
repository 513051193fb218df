"""`python -m llmctl`, and the `llmctl` command."""

import gc
import sys

gc.set_threshold(50_000)  # starting makes many objects and no garbage: looking for it takes a twentieth of the time

from llmctl.cli.app import run  # noqa: E402


def main() -> None:
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
