"""The dashboard: pages on the record of runs, served by Flower beside its own pages of the workers."""
