"""Known failures in the logs of vLLM, LMCache and Mooncake, and in their live counters."""
