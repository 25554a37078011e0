"""Tables on disk → columnar tensors → batches."""
