"""The command line: each module parses, calls one public function and prints.

`evaluating/` holds the commands that judge. There is no logic here.
"""
