"""ReST: filter problems by the spread of their rewards and assemble training instances (ReST-RL, section 3.2). Pure."""

from __future__ import annotations

from restrl.rest.assembly import Assembly, Instance, ProblemStats, RestConfig, Sample, assemble, prefix_probabilities

__all__ = ["Assembly", "Instance", "ProblemStats", "RestConfig", "Sample", "assemble", "prefix_probabilities"]
