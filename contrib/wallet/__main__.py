"""`python -m contrib.wallet`."""

from contrib.wallet.cli import main

if __name__ == "__main__":
    main(prog_name="wallet")
