"""What a network is asked: head, loss, decoding."""
