"""What a user holds after training: the model, its embeddings and reconstructions."""
