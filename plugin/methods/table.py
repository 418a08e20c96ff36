"""Every payment method that this mint knows."""

from __future__ import annotations

from plugin.methods.bolt11 import Bolt11Method
from plugin.methods.bolt12 import Bolt12Method
from plugin.methods.method import Method
from plugin.methods.onchain import OnchainMethod

METHODS: tuple[type[Method], ...] = (Bolt11Method, Bolt12Method, OnchainMethod)
