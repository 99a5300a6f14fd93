"""Values ``V(S) = E[R | S]`` (ReST-RL, section 3.3): targets, their collection, and the model that learns them."""
