"""A cloud in memory, for tests, benchmarks and rehearsals: real Node objects, drawn delays, faults on request."""
