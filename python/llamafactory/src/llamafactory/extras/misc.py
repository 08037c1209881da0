"""What programs call between two models."""
import gc


def torch_gc():
    """Lets go of what nothing refers to any more."""
    gc.collect()
