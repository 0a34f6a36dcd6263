"""How good a model is, by itself and against real images: what is measured, and how."""
