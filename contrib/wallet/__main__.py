"""`python -m contrib.wallet`."""

import contrib.wallet.cli_onchain  # noqa: F401 - its commands
from contrib.wallet.cli import main

if __name__ == "__main__":
    main(prog_name="wallet")
