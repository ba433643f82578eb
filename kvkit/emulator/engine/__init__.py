"""The emulated engine: a scheduler over a device cache and an external tier, behind vLLM's HTTP interface."""
