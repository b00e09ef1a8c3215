"""Where images come from: providers, their checksums, and the cache."""
