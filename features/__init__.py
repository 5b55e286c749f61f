"""Flows to features: first contacts, DNS names, edges, and the sums that decide."""
