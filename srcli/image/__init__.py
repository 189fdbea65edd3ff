"""Reading and writing pictures: colours, depth and metadata are kept, and every loss is noted."""
