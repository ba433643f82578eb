"""Commands of the command line, one file a subject: they parse, call and print.

`kvkit --help` imports them all, so whatever takes longer to import than they do is imported where it is used.
"""
