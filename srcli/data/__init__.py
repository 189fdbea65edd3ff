"""Photos and what training and evaluation cut out of them."""
