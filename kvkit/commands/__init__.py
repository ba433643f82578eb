"""Commands, one a file: they parse, call and print. Heavy imports stand in the command that needs them."""
