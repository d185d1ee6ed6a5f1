"""Reports of a run for people and for programs; each renderer is a pure function of the report."""
