"""What the command line shows and the library uses; nothing heavy is imported for it."""

INDEX_DIGITS = 9  # a billion images
SUFFIXES = {"npy": ".npy", "npz": ".npz", "tar": ".tar", "zip": ".zip", "idx": ".idx"}  # of one file of many images
FORMATS = ("png", *SUFFIXES)
MAX_TEMPERATURE = 100
MAX_THREADS = 1024  # or processes
CHECKPOINT = "checkpoint.safetensors"  # in the directory of every training run
FIGURE = "a figure by vae-gen"  # what every sheet, curve and animation says in its file; none is taken for a picture
