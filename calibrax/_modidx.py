d = {"syms": {}}
