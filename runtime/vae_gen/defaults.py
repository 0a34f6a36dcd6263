"""What the command line shows and the library uses; nothing heavy is imported for it."""

BATCH_SIZE = 1024  # images held in memory at a time
FORMATS = ("png", "npy")
MAX_TEMPERATURE = 100
