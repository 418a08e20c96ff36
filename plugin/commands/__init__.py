"""The operator's commands, `lightning-cli cashu-…`: one file for each concern, all of them declared in `table`.

A read-only rune of Core Lightning allows every command whose name begins with `list` or `get`, and `summary`: none of
ours is called so, and none may be, for what they show is for the operator.
"""
