"""The long part of the tests: load, soak and slow clients, run by `make stress` and not by `make test`."""
