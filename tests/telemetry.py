"""What onnxruntime is told of telemetry, seen at the moment when it is imported."""

# Code to stand before what is watched; prints the switch.
WATCH = """
import os, sys

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "onnxruntime":
            print(os.environ.get("ORT_DISABLE_TELEMETRY"))

sys.meta_path.insert(0, Watch())
"""
