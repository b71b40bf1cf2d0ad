"""Track4DGen Studio: a static 3D model and one sentence into a moving 4D Gaussian asset."""

__version__ = "0.1.0"
