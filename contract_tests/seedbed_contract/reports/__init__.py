"""The outcome of a run in the forms that people and machines read; each a pure function of the judgement."""
