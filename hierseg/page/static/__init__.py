"""The page without a server: a folder for any static host, whose networks run in the visitor's browser."""
