"""Preflight: what breaks KV sharing, found before a GPU hour is spent.

`gather` looks and judges nothing; `judge` turns what was gathered into findings and looks at nothing. The code runs on
the hosts too, shipped by the Ansible module kv_preflight: standard library only, Python 3.9 and newer, and imports
inside the package are relative, because on a host the package has another name.
"""
