"""Commands of the command line, one file a subject: they parse, call and print."""
