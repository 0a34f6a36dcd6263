"""People's pictures and arrays: images that fit a model, or a data set to train and to measure with."""
