"""The report about runs, benchmarks and audits: see ``page``."""
