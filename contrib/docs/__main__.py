"""python3 -m contrib.docs: write `reference.md` anew, from the options and commands that the plugin declares."""

from __future__ import annotations

from contrib import bootstrap


def main() -> None:
    """Set up, then write."""
    bootstrap.enter("contrib")
    from contrib.docs import reference  # noqa: PLC0415 - needs the environment

    reference.PAGE.write_text(reference.make())
    print(f"wrote {reference.PAGE.relative_to(bootstrap.ROOT)}")


if __name__ == "__main__":
    main()
