"""Result images: what they show, how they are drawn or taken from a directory, and how they are served."""
