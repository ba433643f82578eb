class WorkloadError(Exception):
    """A file of the workload can't be used. The message is complete: print it as it is."""
