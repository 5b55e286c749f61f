"""How good detection is: every labelled capture and the live bench, beside simpler detectors."""
