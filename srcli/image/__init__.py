"""Images in and out: what photographers care about is kept, and every loss is said."""
