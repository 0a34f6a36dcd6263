"""What the command line shows and the library uses; nothing heavy is imported for it."""

BATCH_SIZE = 1024  # images held in memory at a time
FORMATS = ("png", "npy")
INDEX_DIGITS = 9  # at least, in the names of pictures: a billion images
MAX_TEMPERATURE = 100
SUFFIXES = {"npy": ".npy", "npz": ".npz", "tar": ".tar", "zip": ".zip", "idx": ".idx"}  # of files of many images
