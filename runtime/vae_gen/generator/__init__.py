"""The batch generator: a run's images, cut into parts, made by one process or many, resumed, and verified."""
