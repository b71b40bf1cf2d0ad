"""The user study: collecting blind ratings. Imports neither torch nor the diffusion models."""
