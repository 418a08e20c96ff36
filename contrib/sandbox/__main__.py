"""Entry: the sandbox in the foreground, or one command of a running one."""

import sys

from contrib.sandbox import cli, foreground


def main() -> int:
    """Dispatch on the first argument."""
    arguments = sys.argv[1:]
    if arguments and arguments[0] == "cli":
        return cli.main(arguments[1:])
    return foreground.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
