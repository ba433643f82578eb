"""The emulated Mooncake store: keys with sizes in memory, and the ports of a real master."""
