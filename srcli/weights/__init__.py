"""Weights files: where they are, what they hold, and how published ones become ours.

`files` finds and hashes them without torch, `checkpoint` reads and writes ours, `official` understands those that authors
publish, `convert` makes ours of them, `download` fetches them. No other module touches a checkpoint.
"""
