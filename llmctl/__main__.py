"""`python -m llmctl`, and the `llmctl` command."""

import sys

from llmctl.cli.app import run


def main() -> None:
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
