"""Long tests of load, kills and slow clients, run by `make stress` and not by `make test`."""
