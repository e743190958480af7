"""What the panel knows and computes, without Qt and napari."""
