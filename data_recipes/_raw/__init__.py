"""Raw files as they are given: CSV in blocks, tables that people have, what cells hold."""
