"""The network and everything it computes with: plain torch, which knows nothing of Lightning or hosts."""
