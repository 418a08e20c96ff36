"""The crash matrix: kill -9 at each durable step of each operation, in real flows, and what the world says afterwards.

`steps` names the points, `flows` are what wallets and operators do, `world` is a mint in a stand-in node, `real` one in
a real node, `wallet` the model that is held against the mint, `trial` one death and what came of it.
"""
