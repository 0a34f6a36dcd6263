"""What the command line shows and the library uses; nothing heavy is imported for it."""

INDEX_DIGITS = 9  # a billion images
FORMATS = ("png", "npy", "npz", "tar", "zip", "idx")
OF_MANY_IMAGES = tuple(f".{name}" for name in FORMATS if name != "png")  # the suffixes of such files
MAX_TEMPERATURE = 100
MAX_THREADS = 1024  # or processes
CHECKPOINT = "checkpoint.safetensors"  # in the directory of every training run
FIGURE = "a figure by vae-gen"  # what every sheet, curve and animation says in its file; none is taken for a picture
