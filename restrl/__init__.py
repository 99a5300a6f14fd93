"""ReST-RL: a code LLM improves by its own practice, and a value model steers its decoding (arXiv 2508.19576)."""
