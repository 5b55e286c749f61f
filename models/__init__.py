"""Features to evidence: the baseline and the detectors that compare traffic with it."""
