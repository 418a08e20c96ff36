"""The operator's commands, `lightning-cli cashu-…`: one file for each concern, all of them declared in `table`.

A read-only rune of Core Lightning allows every command whose name begins with `list`, `get` or `summary`: none of ours
does, and none may, for what they show is for the operator.
"""
